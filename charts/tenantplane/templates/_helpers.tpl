{{/* Names that both programs know are fixed, not derived from the release: an installation is one per cluster. */}}

{{- define "tenantplane.namespace.system" -}}
{{- .Release.Namespace -}}
{{- end }}

{{- define "tenantplane.namespace.runtime" -}}
{{- dig "shared" "namespaces" "runtime" "tenantplane-runtime" .Values.platform -}}
{{- end }}

{{- define "tenantplane.namespace.jobs" -}}
{{- dig "shared" "namespaces" "jobs" "tenantplane-jobs" .Values.platform -}}
{{- end }}

{{- define "tenantplane.namespace.models" -}}
{{- dig "shared" "namespaces" "models" "tenantplane-models" .Values.platform -}}
{{- end }}

{{- define "tenantplane.operatorUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:tenantplane-operator
{{- end }}

{{- define "tenantplane.labels" -}}
app.kubernetes.io/name: tenantplane
app.kubernetes.io/part-of: tenantplane
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "tenantplane.image" -}}
{{- $image := .image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* The Platform file: the user's `platform` with what only the release knows. */}}
{{- define "tenantplane.platform" -}}
{{- $platform := deepCopy .Values.platform -}}
{{- $shared := get $platform "shared" | default dict -}}
{{- $namespaces := get $shared "namespaces" | default dict -}}
{{- $_ := set $namespaces "system" .Release.Namespace -}}
{{- $_ = set $shared "namespaces" $namespaces -}}
{{- $dataplane := get $shared "dataplane" | default dict -}}
{{- if not (hasKey $dataplane "publicURL") -}}
{{- $_ = set $dataplane "publicURL" (printf "http://tenantplane-dataplane.%s.svc:%v" .Release.Namespace .Values.dataplane.service.port) -}}
{{- end -}}
{{- $_ = set $shared "dataplane" $dataplane -}}
{{- $_ = set $platform "shared" $shared -}}
{{- $operator := get $platform "operator" | default dict -}}
{{- $indexer := get $operator "indexer" | default dict -}}
{{- if not (hasKey $indexer "image") -}}
{{- $_ = set $indexer "image" (include "tenantplane.image" (dict "image" .Values.dataplane.image "root" .)) -}}
{{- end -}}
{{- $_ = set $operator "indexer" $indexer -}}
{{- $_ = set $platform "operator" $operator -}}
{{- /* JSON is YAML, and unlike toYaml it never writes 1000000000 as 1e+09. */ -}}
{{- mustToPrettyJson $platform -}}
{{- end }}

{{- define "tenantplane.probePort" -}}
{{- dig "operator" "probePort" 8090 .Values.platform -}}
{{- end }}

{{- define "tenantplane.publicPort" -}}
{{- dig "shared" "dataplane" "port" 8080 .Values.platform -}}
{{- end }}

{{- define "tenantplane.podSecurity" -}}
{{- range $mode := list "enforce" "audit" "warn" }}
pod-security.kubernetes.io/{{ $mode }}: restricted
pod-security.kubernetes.io/{{ $mode }}-version: {{ $.Values.namespaces.podSecurityVersion }}
{{- end }}
{{- end }}

{{- define "tenantplane.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "tenantplane.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
privileged: false
capabilities:
  drop: [ALL]
{{- end }}

{{/* CEL: whether the key `k` belongs to us. */}}
{{- define "tenantplane.cel.ourKey" -}}
k.matches('^([^/]*[.])?tenantplane[.]dev/')
{{- end }}

{{/* CEL: whether the requester stands behind the tenant fence: it does not hold `bypass` on `fence`. */}}
{{- define "tenantplane.cel.fenced" -}}
!authorizer.group('tenantplane.dev').resource('fence').check('bypass').allowed()
{{- end }}

{{/* CEL list: what the plan allows, from the annotation tenantplane.dev/allow-<.> of the tenant's Namespace. An absent
     annotation is an empty list, and no entry is ever empty, so that an unset field matches nothing. */}}
{{- define "tenantplane.cel.allow" -}}
namespaceObject.metadata.?annotations[?'tenantplane.dev/allow-{{ . }}'].orValue('').split(',').filter(e, e != '')
{{- end }}

{{/* CEL text: the list `variables.<.>` for a message, cut where a message would become too long for Kubernetes. */}}
{{- define "tenantplane.cel.shown" -}}
(variables.{{ . }}.size() == 0 ? '(none)' : [variables.{{ . }}.join(', ')].map(t, t.size() > 1000 ? t.substring(0, 1000) + ' ...' : t)[0])
{{- end }}

{{/* CEL: whether `variables.hosts`, the plan's, allow the host `h`; the empty host is every host. */}}
{{- define "tenantplane.cel.hostAllowed" -}}
variables.hosts.exists(e, e == '*' || e == h || e.startsWith('*.') && h.endsWith(e.substring(1)) && h.size() > e.size() - 1)
{{- end }}

{{/* CEL: the pod spec in object `.` of any built-in workload kind; {} where there is none, as before a CREATE. */}}
{{- define "tenantplane.cel.podSpec" -}}
{{ . }} == null ? {} : request.resource.resource == 'pods' ? dyn({{ . }}).spec :
dyn({{ . }}).?spec.?jobTemplate.?spec.?template.?spec.or(dyn({{ . }}).?spec.?template.?spec).or(dyn({{ . }}).?template.?spec).orValue({})
{{- end }}

{{/* CEL list of key=value: annotations, in object `.` and its pod template, that are not for tenants. */}}
{{- define "tenantplane.cel.podAnnotations" -}}
{{ . }} == null ? [] : [
dyn({{ . }}).?spec.?jobTemplate.?spec.?template.?metadata.?annotations.or(dyn({{ . }}).?spec.?template.?metadata.?annotations).or(dyn({{ . }}).?template.?metadata.?annotations).or(dyn({{ . }}).?metadata.?annotations).orValue({})
].map(m, m.filter(k, k.matches('^(k8s[.]v1[.]cni[.]cncf[.]io|v1[.]multus-cni[.]io|iam[.]amazonaws[.]com)/')).map(k, k + '=' + string(m[k])))[0]
{{- end }}

{{/* The rest of a policy `name` of the tenant fence is its own; this much they share. Takes root, name. */}}
{{- define "tenantplane.fence.metadata" -}}
metadata:
  name: {{ .name }}
  labels:
    {{- include "tenantplane.labels" .root | nindent 4 }}
{{- end }}

{{- define "tenantplane.fence.tenants" -}}
namespaceSelector:
  matchExpressions:
    - {key: tenantplane.dev/tenant, operator: Exists}
{{- end }}

{{/* The binding of a policy, which makes it act on everything that the policy matches. Takes root, name. */}}
{{- define "tenantplane.fence.binding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
{{ include "tenantplane.fence.metadata" . }}
spec:
  policyName: {{ .name }}
  validationActions: [Deny]
{{- end }}

{{/* CEL list of the ClusterRoles that RoleBindings in tenants' namespaces may name. */}}
{{- define "tenantplane.tenantRoles" -}}
['tenantplane-tenant-admin', 'tenantplane-tenant-editor', 'tenantplane-tenant-viewer', 'tenantplane-tenant-workloads', 'tenantplane-operator-namespace']
{{- end }}

{{/* RBAC subjects of values, with the apiGroup that users and groups need. */}}
{{- define "tenantplane.subjects" -}}
{{- range . }}
- kind: {{ .kind }}
  name: {{ .name | quote }}
  {{- if eq .kind "ServiceAccount" }}
  namespace: {{ .namespace }}
  {{- else }}
  apiGroup: rbac.authorization.k8s.io
  {{- end }}
{{- end }}
{{- end }}
