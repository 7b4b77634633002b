# Sourced by ../cluster: the end of a cluster, and the proof that nothing of it is left.

end_process() { # NAME: ends what `spawn` started; the kernel ends everything in its pid namespace with it
  is_up "$1" && kill -9 "$(cat "$RUN/$1.pid")" 2>/dev/null
  rm -f "$RUN/$1.pid"
}
processes() { # every process of a control plane or node: it works on the run directory in a mount namespace of its own
  local p own
  own=$(readlink /proc/$$/ns/mnt)
  for p in /proc/[0-9]*; do
    [ "$(readlink "$p/ns/mnt" 2>/dev/null || echo "$own")" != "$own" ] &&
      tr '\0' ' ' 2>/dev/null <"$p/cmdline" | grep -qF "$RUN/" && echo "${p#/proc/}"
  done
  return 0
}
cgroups() { # those that node init made, deepest first; cgroup v1 has one tree per controller
  find /sys/fs/cgroup -depth -type d -path '*/chord-node[0-9]*' 2>/dev/null || true
}
no_processes() { [ -z "$(processes)" ]; }
remove_cgroups() { cgroups | xargs -r rmdir 2>/dev/null; [ -z "$(cgroups)" ]; }
down() {
  local p ns
  for p in "$RUN"/*.pid; do [ -e "$p" ] && end_process "$(basename "$p" .pid)"; done
  wait_for 30 no_processes
  for ns in $(ip netns list | awk '/^chord-/ {print $1}'); do ip netns del "$ns"; done
  for link in $(ip -br link | awk '/^v(cp|node[0-9]+)@/ {sub(/@.*/, "", $1); print $1}'); do ip link del "$link" 2>/dev/null || true; done
  ip link del $BRIDGE 2>/dev/null || true
  wait_for 30 remove_cgroups
  [ ! -f "$RUN/ip_forward" ] || sysctl -qw "net.ipv4.ip_forward=$(cat "$RUN/ip_forward")"
  rm -rf "$RUN"; rmdir $VOLUMES "$(dirname "$RUN")" 2>/dev/null || true
  leftovers && say "Kubernetes is down; nothing is left of it"
}
leftovers() {
  local found
  found=$({
    processes | sed 's/^/process /'
    ip netns list | grep '^chord-' | sed 's/^/network namespace /'
    ip -br link | grep -E "^($BRIDGE|v(cp|node[0-9]+)@)" | sed 's/^/link /'
    ip route | grep -F " $NET." | sed 's/^/route /'
    grep -F "$RUN" /proc/self/mounts | sed 's/^/mount /'
    cgroups | sed 's/^/cgroup /'
    nft list tables 2>/dev/null | grep -iE 'kube|cni' | sed 's/^/firewall /'
    iptables-save 2>/dev/null | grep -iE 'kube|cni|chord' | sed 's/^/firewall /'
    ls -d "$RUN" $VOLUMES 2>/dev/null | sed 's/^/directory /'
  } || true)
  [ -z "$found" ] && return
  echo "$found"; return 1
}
