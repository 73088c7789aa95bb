{{- define "kas-stub.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Room for the longest suffix, "-observability", within a label's 63 characters. */}}
{{- define "kas-stub.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 48 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 48 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "kas-stub.selectorLabels" -}}
app.kubernetes.io/name: {{ include "kas-stub.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "kas-stub.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "kas-stub.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.additionalLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "kas-stub.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "kas-stub.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* The addresses of the Services, where no others are given. */}}
{{- define "kas-stub.agentUrl" -}}
{{- get .Values.config "agent-url" | default (printf "grpcs://%s-agents.%s.svc:%v" (include "kas-stub.fullname" .) .Release.Namespace .Values.services.agents.port) }}
{{- end }}

{{- define "kas-stub.externalUrl" -}}
{{- $port := .Values.services.people.port | int }}
{{- $default := printf "https://%s.%s.svc%s" (include "kas-stub.fullname" .) .Release.Namespace (eq $port 443 | ternary "" (printf ":%d" $port)) }}
{{- get .Values.config "external-url" | default $default }}
{{- end }}

{{/* The configuration file. */}}
{{- define "kas-stub.config" -}}
{{- range $key := list "data-dir" "agent-listen-address" "people-listen-address" "observability-listen-address" "tls-cert-file" "tls-key-file" "tls-ca-file" "git-ca-file" }}
{{- if hasKey $.Values.config $key }}
{{- fail (printf "config.%s is set by the chart itself; leave it out" $key) }}
{{- end }}
{{- end }}
{{- $own := dict "agent-url" (include "kas-stub.agentUrl" .) "external-url" (include "kas-stub.externalUrl" .) "log-format" "json" }}
{{- toYaml (merge (dict) .Values.config $own) }}
{{- end }}
