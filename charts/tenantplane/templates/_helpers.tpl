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

{{/* CEL: whether the requester does not hold `bypass` on `fence`. */}}
{{- define "tenantplane.cel.mayNotBypass" -}}
!authorizer.group('tenantplane.dev').resource('fence').check('bypass').allowed()
{{- end }}

{{/* CEL: whether the requester stands behind the tenant fence. Takes root: users of fence.neverBypass always do. */}}
{{- define "tenantplane.cel.fenced" -}}
{{- with .Values.fence.neverBypass -}}
request.userInfo.?username.orValue('') in ['{{ join "', '" . }}'] || {{ end -}}
{{- include "tenantplane.cel.mayNotBypass" . -}}
{{- end }}

{{/* CEL list: the host names that object `.` asks external-dns for, under its prefix of today and the one before 0.22;
     one text per annotation, names separated by commas. */}}
{{- define "tenantplane.cel.dnsNames" -}}
[?{{ . }}.?metadata.?annotations[?'external-dns.alpha.kubernetes.io/hostname'],
?{{ . }}.?metadata.?annotations[?'external-dns.alpha.kubernetes.io/internal-hostname'],
?{{ . }}.?metadata.?annotations[?'external-dns.kubernetes.io/hostname'],
?{{ . }}.?metadata.?annotations[?'external-dns.kubernetes.io/internal-hostname']]
{{- end }}

{{/* CEL: whether every name in `n`, one of dnsNames, is a host that the plan allows; split exactly as external-dns does. */}}
{{- define "tenantplane.cel.dnsNameAllowed" -}}
n.split(',').map(h, h.trim()).all(h, {{ include "tenantplane.cel.hostAllowed" . }})
{{- end }}

{{/* CEL: whether annotation `k` is what tools write about any object they manage. */}}
{{- define "tenantplane.cel.toolKey" -}}
(!k.contains('/') || k.matches('^(kubectl[.]kubernetes[.]io|meta[.]helm[.]sh|argocd[.]argoproj[.]io|app[.]kubernetes[.]io|([a-z-]+[.])*fluxcd[.]io)/'))
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

{{/* CEL text: a pattern of annotations by which a pod tells agents of the node, the network, the runtime or the
     autoscaler what no policy sees: further networks and addresses, roles of the node, devices, host settings, nodes that
     may not be emptied, names in DNS. */}}
{{- define "tenantplane.cel.podAnnotationKeys" -}}
'^((k8s[.]v1[.]cni[.]cncf[.]io|v1[.]multus-cni[.]io|(iam|vpc)[.]amazonaws[.]com|karpenter[.]sh|cluster-autoscaler[.]kubernetes[.]io|cni[.]projectcalico[.]org|external-dns[.](alpha[.])?kubernetes[.]io|([^/]*[.])?(ovn[.]kubernetes[.]io|ovn[.]org|cilium[.]io|gvisor[.]dev))/|([^/]*[.])?(crio[.]io|nri[.]io|nri[.]containerd[.]io)(/|$)|(io[.])?kubernetes[.]cri-o[./]|io[.]cilium[./]|dev[.]gvisor[./]|io[.]katacontainers[./]|[^/]*[.]?katacontainers[.]config[.])'
{{- end }}

{{/* CEL list of key=value: annotations, in object `.` and its pod template, that are not for tenants. */}}
{{- define "tenantplane.cel.podAnnotations" -}}
{{ . }} == null ? [] : [
dyn({{ . }}).?spec.?jobTemplate.?spec.?template.?metadata.?annotations.or(dyn({{ . }}).?spec.?template.?metadata.?annotations).or(dyn({{ . }}).?template.?metadata.?annotations).or(dyn({{ . }}).?metadata.?annotations).orValue({})
].map(m, m.filter(k, k.matches({{ include "tenantplane.cel.podAnnotationKeys" . }})).map(k, k + '=' + string(m[k])))[0]
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
