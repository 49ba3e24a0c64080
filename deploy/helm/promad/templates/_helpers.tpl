{{- /* At most 40 characters: with what is appended, names of objects and labels of pods keep to their limits. */ -}}
{{- define "promad.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "promad.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "promad.labels" -}}
{{ include "promad.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "promad.serviceAccount" -}}
{{- if .Values.serviceAccount.name -}}
{{- .Values.serviceAccount.name -}}
{{- else if .Values.serviceAccount.create -}}
{{- include "promad.fullname" . -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{- define "promad.bundlesClaim" -}}
{{- .Values.bundles.existingClaim | default (printf "%s-bundles" (include "promad.fullname" .)) -}}
{{- end -}}

{{- define "promad.configMap" -}}
{{- .Values.existingConfigMap | default (include "promad.fullname" .) -}}
{{- end -}}

{{- define "promad.prefix" -}}
{{- .Values.web.routePrefix | trimSuffix "/" -}}
{{- end -}}

{{- /* URLs of all pods of the daemon, for the page of each. With a protected port they need credentials, */ -}}
{{- /* which only the configuration can have; one that sets web.peers itself decides. */ -}}
{{- define "promad.peers" -}}
{{- $root := . -}}
{{- $config := dict -}}
{{- if not .Values.existingConfigMap -}}
{{- $config = .Values.config | fromYaml -}}
{{- end -}}
{{- $web := $config.web | default dict -}}
{{- $fullname := include "promad.fullname" . -}}
{{- $reachable := or (not .Values.web.configFile) (hasKey $web "peers_http_config") -}}
{{- if and (gt (int .Values.shards) 1) $reachable (not (hasKey $web "peers")) -}}
{{- $urls := list -}}
{{- range $replica := untilStep 1 (add1 .Values.replicas | int) 1 -}}
{{- $set := ternary (printf "%s-replica-%d" $fullname $replica) $fullname (gt $replica 1) -}}
{{- range $shard := until (int $root.Values.shards) -}}
{{- $host := printf "%s-%d.%s-headless:8001" $set $shard $fullname -}}
{{- $urls = append $urls (printf "%s://%s%s" (include "promad.scheme" $root) $host (include "promad.prefix" $root)) -}}
{{- end -}}
{{- end -}}
{{- join "," $urls -}}
{{- end -}}
{{- end -}}

{{- define "promad.scheme" -}}
{{- ternary "https" "http" .Values.web.tls -}}
{{- end -}}

{{- /* What a pod of the daemon and one of the training have in common. */ -}}
{{- define "promad.podSettings" -}}
serviceAccountName: {{ include "promad.serviceAccount" . }}
automountServiceAccountToken: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "promad.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
{{- end -}}

{{- /* The image with a tag in place of the default: (dict "root" $ "tag" ""). */ -}}
{{- define "promad.image" -}}
{{- $image := .root.Values.image -}}
{{- if .tag -}}
{{ $image.repository }}:{{ .tag }}
{{- else if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "promad.volumeMounts" -}}
# A directory, because a single mounted file is not updated.
- name: config
  mountPath: /etc/promad
  readOnly: true
- name: state
  mountPath: /var/lib/promad
- name: bundles
  mountPath: /var/lib/promad/bundles
- name: tmp
  mountPath: /tmp
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "promad.volumes" -}}
- name: config
  projected:
    defaultMode: 0440
    sources:
      - configMap:
          name: {{ include "promad.configMap" . }}
          items:
            - key: config.yaml
              path: config.yaml
      {{- range .Values.secretFiles }}
      - secret:
          name: {{ .secretName }}
          items:
            - key: {{ .key }}
              path: secrets/{{ .file }}
      {{- end }}
- name: tmp
  emptyDir: {}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
