{{/* Names, labels, images and what both Pods share. */}}

{{- define "rbdcsi.driver" -}}rbd.rbdcsi.io{{- end }}

{{/* A Service's name begins with a letter and has no dots, which a release's may. */}}
{{- define "rbdcsi.name" -}}
{{- $name := .Release.Name | replace "." "-" }}
{{- regexReplaceAll "-+$" (regexMatch "^[a-z]" $name | ternary $name (print "rbdcsi-" $name) | trunc 40) "" }}
{{- end }}

{{- define "rbdcsi.selector" -}}
app.kubernetes.io/name: rbdcsi
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "rbdcsi.labels" -}}
{{ include "rbdcsi.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
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

{{/* What is not in the driver's own file: keys, the node plugins' user, and objects to read from.
     Each text is quoted, because `toYaml` leaves `0x_` and `=` bare and PyYAML does not read them as
     text. */}}
{{- define "rbdcsi.cluster" -}}
{{- range $name, $value := omit . "key" "keyFrom" "user" "nodeUser" "nodeKey" "nodeKeyFrom" "monitorsFrom" }}
{{ $name }}: {{ kindIs "string" $value | ternary (quote $value) (toJson $value) }}
{{- end }}
{{- if .monitorsFrom }}
monitorsFile: /etc/rbdcsi/{{ .clusterID }}.monitors
{{- end }}
{{- if ne .auth "none" }}
keyFile: /etc/rbdcsi/{{ .clusterID }}.key
{{- end }}
{{- end }}

{{/* A change of the clusters restarts the Pods; a new key alone does not, its file is read again. */}}
{{- define "rbdcsi.configuration.controller" -}}
clusters:
{{- range .Values.clusters }}
  - {{- include "rbdcsi.cluster" . | trim | nindent 4 }}
    user: {{ .user | quote }}
{{- end }}
{{- end }}

{{- define "rbdcsi.configuration.node" -}}
clusters:
{{- range .Values.clusters }}
  - {{- include "rbdcsi.cluster" . | trim | nindent 4 }}
    user: {{ .nodeUser | default .user | quote }}
{{- end }}
{{- end }}

{{/* The volume `config`: the Secret, and beside it the objects that clusters name. Arguments: root;
     secret, its name; role, controller or node, each of which gets its own key only. */}}
{{- define "rbdcsi.configVolume" -}}
{{- $sources := list }}
{{- $own := empty .root.Values.existingSecret }}
{{- if eq .role "node" }}{{ $own = and $own (empty .root.Values.node.existingSecret) }}{{ end }}
{{- range $cluster := ternary .root.Values.clusters list $own }}
  {{- $key := $cluster.keyFrom }}
  {{- if and (eq $.role "node") $cluster.nodeUser }}{{ $key = $cluster.nodeKeyFrom }}{{ end }}
  {{- with $key }}
    {{- $items := list (dict "key" .key "path" (print $cluster.clusterID ".key")) }}
    {{- $sources = append $sources (dict "secret" (dict "name" .secret "items" $items)) }}
  {{- end }}
  {{- with $cluster.monitorsFrom }}
    {{- $items := list (dict "key" .key "path" (print $cluster.clusterID ".monitors")) }}
    {{- $sources = append $sources (dict "configMap" (dict "name" .configMap "items" $items)) }}
  {{- end }}
{{- end }}
- name: config
{{- if $sources }}
  projected:
    defaultMode: 0400
    sources: {{- prepend $sources (dict "secret" (dict "name" .secret)) | toYaml | nindent 6 }}
{{- else }}
  secret: {secretName: {{ .secret | quote }}, defaultMode: 0400}
{{- end }}
{{- end }}

{{- define "rbdcsi.configMounts" -}}
- {name: config, mountPath: /etc/rbdcsi, readOnly: true}
{{- end }}

{{/* Alive is a driver that answers, or is busy; ready one that reaches a cluster. It takes 5 s to
     find that out, and longer on a node that has no CPU left, which is no reason to restart it. Nor
     is it there a reason that starting takes minutes: a restart would only begin it again. */}}
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

{{/* Whether snapshots are served: by the value, or by what Kubernetes has when it is rendered. */}}
{{- define "rbdcsi.snapshotter" -}}
{{- $enabled := toString .Values.sidecars.snapshotter.enabled }}
{{- $has := .Capabilities.APIVersions.Has "snapshot.storage.k8s.io/v1" }}
{{- if or (eq $enabled "true") (and (eq $enabled "auto") $has) }}true{{ end -}}
{{- end }}

{{/* The name of the service of changed blocks, and of the Secret with the chart's own certificate. */}}
{{- define "rbdcsi.snapshotMetadata" -}}
{{ include "rbdcsi.name" . }}-snapshot-metadata
{{- end }}

{{/* The parameters of a class. Helm reads each number of a file as a float, and would print
     4.194304e+06; JSON does not. */}}
{{- define "rbdcsi.parameters" -}}
{{- range $name, $value := . }}
{{ $name | quote }}: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end }}

{{/* Whether capacity is published. Not for `node.topology: []`: external-provisioner 6.4 makes and
     deletes its objects again and again where nodes have no segment, and Pods that wait for their
     volume are not scheduled. */}}
{{- define "rbdcsi.capacity" -}}
{{- if and .Values.csiDriver.storageCapacity .Values.node.topology }}true{{ end -}}
{{- end -}}
