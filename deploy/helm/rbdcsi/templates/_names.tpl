{{/* Names, labels, images and what both Pods share. */}}

{{- define "rbdcsi.driver" -}}rbd.rbdcsi.io{{- end }}

{{- define "rbdcsi.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "rbdcsi.selector" -}}
app.kubernetes.io/name: rbdcsi
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "rbdcsi.labels" -}}
{{ include "rbdcsi.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "rbdcsi.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* Controllers and node plugins are two users of Ceph, so each has a Secret: no node holds the
     controllers' key. */}}
{{- define "rbdcsi.secret.controller" -}}
{{- .Values.existingSecret | default (printf "%s-config" (include "rbdcsi.name" .)) }}
{{- end }}

{{- define "rbdcsi.secret.node" -}}
{{- $own := printf "%s-node-config" (include "rbdcsi.name" .) }}
{{- coalesce .Values.node.existingSecret .Values.existingSecret $own }}
{{- end }}

{{/* A change of the clusters restarts the Pods; a new key alone does not, its file is read anew. */}}
{{- define "rbdcsi.configuration.controller" -}}
clusters:
{{- range .Values.clusters }}
  - {{- omit . "key" "nodeUser" "nodeKey" | toYaml | nindent 4 }}
    keyFile: /etc/rbdcsi/{{ .clusterID }}.key
{{- end }}
{{- end }}

{{- define "rbdcsi.configuration.node" -}}
clusters:
{{- range .Values.clusters }}
  - {{- omit . "key" "nodeUser" "nodeKey" "user" | toYaml | nindent 4 }}
    user: {{ .nodeUser | default .user | quote }}
    keyFile: /etc/rbdcsi/{{ .clusterID }}.key
{{- end }}
{{- end }}

{{- define "rbdcsi.configMounts" -}}
- {name: config, mountPath: /etc/rbdcsi, readOnly: true}
{{- end }}

{{/* Alive is a driver that answers, or is busy; ready one whose clusters answer. It takes 5 s to
     find that out, and longer on a node that has no CPU left, which is no reason to restart it. Nor
     is it there a reason that starting takes minutes: a restart would only begin it anew. */}}
{{- define "rbdcsi.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 2
  timeoutSeconds: 6
  failureThreshold: 150
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 20
  timeoutSeconds: 15
  failureThreshold: 5
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 6
{{- end }}

{{/* Whether capacity is published. Not for `node.topology: []`: external-provisioner 6.4 makes and
     deletes its objects again and again where nodes have no segment, and Pods that wait for their
     volume are not scheduled. */}}
{{- define "rbdcsi.capacity" -}}
{{- if and .Values.csiDriver.storageCapacity .Values.node.topology }}true{{ end -}}
{{- end -}}
