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
