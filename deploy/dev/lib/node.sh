# Sourced by ../cluster: one node. Its data under run/nodeN outlives a kill, as a disk outlives a power cut.

node() { # N
  local n=$1 name=node$1 d=$RUN/node$1 ip=$NET.$((10 + $1)) i
  mkdir -p "$d"/{var-lib/kubelet,var-log,cni,containerd}
  host "$name" "$ip"
  renewed "$n" >"$d/renewed"
  ip route replace "$POD.$n.0/24" via "$ip"
  for i in $(seq 0 $((NODES_MAX - 1))); do
    [ "$i" = "$n" ] || ip -n "chord-$name" route replace "$POD.$i.0/24" via "$NET.$((10 + i))"
  done
  cert "$name" "/O=system:nodes/CN=system:node:$name" "DNS:$name,IP:$ip"
  cat >"$d/cni/10-dev.conflist" <<Y
{"cniVersion":"1.0.0","name":"dev","plugins":[
 {"type":"bridge","bridge":"cni0","isGateway":true,"hairpinMode":true,"ipam":{"type":"host-local","dataDir":"$d/ipam",
  "ranges":[[{"subnet":"$POD.$n.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
 {"type":"portmap","capabilities":{"portMappings":true}}]}
Y
  # restrict_oom_score_adj: without CAP_SYS_RESOURCE sandboxes die with "can't get final child's PID".
  cat >"$d/containerd.toml" <<Y
version = 2
root = "$d/containerd/root"
state = "/run/containerd/state"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$d/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
Y
  cat >"$d/kubelet.yaml" <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /chord-$name
failSwapOn: false
oomScoreAdj: 0
podLogsDir: /var/log/pods
volumePluginDir: /var/lib/kubelet/volume-plugins
authentication: {anonymous: {enabled: false}, x509: {clientCAFile: $PKI/ca.crt}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
tlsCertFile: $PKI/$name.crt
tlsPrivateKeyFile: $PKI/$name.key
clusterDomain: cluster.local
clusterDNS: [$DNS_IP]
resolvConf: ""
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
imageGCHighThresholdPercent: 100
evictionHard: {nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
nodeStatusUpdateFrequency: 4s
Y
  cat >"$d/kube-proxy.yaml" <<Y
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: $POD.0.0/16
clientConnection: {kubeconfig: $KUBECONFIG}
hostnameOverride: $name
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
Y
  cat >"$d/init" <<Y
#!/bin/bash
# pid 1 of $name
mount -t tmpfs tmpfs /run && mkdir -p /run/containerd /run/netns /run/lock
mount --bind $d/var-lib /var/lib; mount --bind $d/var-log /var/log # what kubelet and CNI leave there is the node's own
mount --bind $RUN/volumes $VOLUMES
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
  echo '+cpu +cpuset +memory +pids' >/sys/fs/cgroup/cgroup.subtree_control; mkdir -p /sys/fs/cgroup/chord-$name
else
  for c in /sys/fs/cgroup/*/; do mkdir -p "\$c/chord-$name"; done
  for f in cpus mems; do cat /sys/fs/cgroup/cpuset/cpuset.\$f >/sys/fs/cgroup/cpuset/chord-$name/cpuset.\$f; done
fi
containerd -c $d/containerd.toml >>$LOGS/$name-containerd.log 2>&1 &
for i in {1..300}; do [ -S /run/containerd/containerd.sock ] && break; sleep 0.1; done
for t in $CACHE/pause.tar $RUN/images/*.tar; do
  [ -f "\$t" ] && ctr -n k8s.io images import "\$t" >/dev/null && sha256sum <"\$t" >"$d/imported-\$(basename "\$t")"
done
$BIN/kube-proxy --config $d/kube-proxy.yaml >>$LOGS/$name-kube-proxy.log 2>&1 &
$BIN/kubelet --config $d/kubelet.yaml --kubeconfig $KUBECONFIG --hostname-override $name --node-ip $ip \
  --node-labels topology.kubernetes.io/zone=zone-$n &
while :; do wait -n || sleep 1; done # reap the orphans of the namespace
Y
  chmod +x "$d/init"
  spawn "$name" "$name" "$d/init"
}
inside() { # NODE CMD…: run in a node's namespaces
  local node=$1; shift
  is_up "$node" || die "$node is not running; start it with: cluster node-start ${node#node}"
  nsenter -t "$(pgrep -P "$(cat "$RUN/$node.pid")" | head -1)" -m -n -p -- "$@"
}
node_kill() { # N
  end_process "node$1"
  local end=$((SECONDS + 20))
  while processes | xargs -r -I{} cat /proc/{}/cmdline 2>/dev/null | tr '\0' ' ' | grep -qF "$RUN/node$1/"; do
    [ $SECONDS -lt $end ] || die "node$1's processes do not end"; sleep 0.1
  done
}
