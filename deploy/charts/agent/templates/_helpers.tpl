{{- define "agent.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Room for the longest suffix, "-user-access", within a label's 63 characters. */}}
{{- define "agent.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 51 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 51 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 51 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* Cluster-scoped objects carry the namespace, so that two releases of one name do not meet. */}}
{{- define "agent.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "agent.fullname" .) }}
{{- end }}

{{- define "agent.selectorLabels" -}}
app.kubernetes.io/name: {{ include "agent.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "agent.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "agent.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.additionalLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "agent.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "agent.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "agent.userAccessServiceAccountName" -}}
{{- include "agent.fullname" . }}-user-access
{{- end }}

{{/* What the agent may do in namespaces that it makes; it binds this itself. */}}
{{- define "agent.workspaceRoleName" -}}
{{- include "agent.clusterName" . }}-workspace
{{- end }}

{{- define "agent.secretName" -}}
{{- default (printf "%s-token" (include "agent.fullname" .)) .Values.config.secretName }}
{{- end }}

{{- define "agent.checkValues" -}}
{{- if and .Values.config.token .Values.config.secretName }}
{{- fail "set config.token or config.secretName, not both" }}
{{- end }}
{{- if eq .Values.workspaces.sharedNamespace .Release.Namespace }}
{{- fail "workspaces.sharedNamespace is the release's own namespace, where the agent's token is: name another one" }}
{{- end }}
{{- if not (or .Values.config.token .Values.config.secretName) }}
{{- $_ := required "config.token (from `kas-stub agent create NAME`) or config.secretName is needed" "" }}
{{- end }}
{{- $_ := required "config.kasAddress is needed: the server's address for agents, such as grpcs://kas.example.com:8150" .Values.config.kasAddress }}
{{- end }}
