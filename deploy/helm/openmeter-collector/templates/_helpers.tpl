{{- define "collector.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "collector.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "collector.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "collector.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "collector.selectorLabels" -}}
app.kubernetes.io/name: {{ include "collector.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "collector.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "collector.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "collector.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "collector.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* The arguments of the collector: where the configuration comes from, and how many processes. */}}
{{- define "collector.args" -}}
{{- $args := list "run" -}}
{{- if .Values.config -}}
{{- $args = concat $args (list "-c" "/etc/openmeter-collector/config.yaml") -}}
{{- else if .Values.configFile -}}
{{- $args = concat $args (list "-c" .Values.configFile) -}}
{{- else if .Values.existingConfig -}}
{{- $args = concat $args (list "-c" "/etc/openmeter-collector/config.yaml") -}}
{{- else if .Values.preset -}}
{{- $args = concat $args (list "--preset" .Values.preset) -}}
{{- else -}}
{{- fail "One of 'config', 'configFile' or 'preset' is required" }}
{{- end -}}
{{- if gt (int .Values.workers) 1 -}}
{{- $args = concat $args (list "--workers" (toString .Values.workers)) -}}
{{- end -}}
{{- toJson $args -}}
{{- end }}

{{/* Ports of probes and metrics, as a list of name and port: one for each worker, which counts for itself. */}}
{{- define "collector.metricsPorts" -}}
{{- range $at := until (int .Values.workers) }}
- name: {{ if $at }}metrics-{{ $at }}{{ else }}metrics{{ end }}
  port: {{ add 4195 $at }}
{{- end }}
{{- end }}

{{- define "collector.configSecret" -}}
{{- if .Values.config }}{{ include "collector.fullname" . }}-config
{{- else if and .Values.existingConfig (not .Values.configFile) }}{{ .Values.existingConfig }}
{{- end }}
{{- end }}

{{/* "true" when objects of Kubernetes are read. */}}
{{- define "collector.readsKubernetes" -}}
{{- $asked := .Values.rbac.kubernetes.enabled | toString -}}
{{- if eq $asked "true" -}}true
{{- else if and (eq $asked "auto") (not .Values.config) (not .Values.configFile) (hasPrefix "kubernetes" .Values.preset) -}}true
{{- else if and (eq $asked "auto") (or (contains "kubernetes_resources" (toYaml .Values.config)) (contains "kubernetes_usage" (toYaml .Values.config))) -}}true
{{- end -}}
{{- end }}

{{/* "true" when the pod talks to Kubernetes' API at all. */}}
{{- define "collector.needsApi" -}}
{{- if and .Values.serviceAccount.automount (or .Values.leaderElection.enabled (include "collector.readsKubernetes" .)) -}}true
{{- end -}}
{{- end }}
