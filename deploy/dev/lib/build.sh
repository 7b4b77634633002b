# Sourced by ../cluster: what must be installed and compiled before a cluster can start.
# 1.35 is the last line that runs with Debian 12's containerd 1.6 and on cgroup v1.
KUBE_VERSION=v1.35.4 ETCD_VERSION=tools/etcd COREDNS_VERSION=v1.14.3 HELM_VERSION=v3.22.0

packages() {
  local need=() p
  for p in containerd:containerd runc:runc buildah:buildah nft:nftables iptables:iptables conntrack:conntrack \
           ip:iproute2 openssl:openssl gcc:gcc nsenter:util-linux pgrep:procps; do
    command -v "${p%%:*}" >/dev/null || need+=("${p##*:}")
  done
  [ -x /usr/lib/cni/bridge ] || need+=(containernetworking-plugins)
  [ ${#need[@]} = 0 ] && return
  command -v apt-get >/dev/null || die "please install: ${need[*]}"
  say "installing ${need[*]}"
  export DEBIAN_FRONTEND=noninteractive
  timeout 300 apt-get update -qq && timeout 900 apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null ||
    die "apt-get could not install: ${need[*]}"
}
has() { # NAME VERSION: whether this version is compiled already
  [ -x "$BIN/$1" ] && [ "$(cat "$BIN/.$1.version" 2>/dev/null || echo "$2")" = "$2" ]
}
compile() { # NAME VERSION DIR GO-ARGUMENTS…: go build in DIR, put in place only when complete
  local name=$1 version=$2 dir=$3; shift 3
  has "$name" "$version" && return
  command -v go >/dev/null || die "Go 1.25 or later is needed to compile Kubernetes: install it and put it on the PATH"
  say "compiling $name"
  (cd "$dir" && CGO_ENABLED=0 GOFLAGS= timeout 1800 go build -trimpath -o "$BIN/.$name.new" "$@") || die "compiling $name failed"
  mv "$BIN/.$name.new" "$BIN/$name"; echo "$version" >"$BIN/.$name.version"
}
install_module() { # NAME VERSION MODULE
  has "$1" "$2" && return
  say "compiling $1"
  (cd / && CGO_ENABLED=0 GOFLAGS= GOBIN=$BIN timeout 1800 go install -trimpath -ldflags '-s -w' "$3@$2") || die "compiling $1 failed"
  echo "$2" >"$BIN/.$1.version"
}
build() {
  packages; mkdir -p "$BIN"
  local v=k8s.io/component-base/version c
  local ld="-s -w -X $v.gitVersion=$KUBE_VERSION -X $v.gitMajor=1 -X $v.gitMinor=35 -X $v.gitTreeState=clean"
  ld+=" -X $v.gitCommit=none -X $v.buildDate=1970-01-01T00:00:00Z"
  # `go install k8s.io/kubernetes/cmd/…@v` is refused for its replace directives; a module of our own replaces them.
  for c in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
    compile "$c" $KUBE_VERSION "$HERE/tools/kubernetes" -ldflags "$ld" "k8s.io/kubernetes/cmd/$c"
  done
  compile etcd $ETCD_VERSION "$HERE/tools/etcd" -ldflags '-s -w' go.etcd.io/etcd/server/v3
  install_module coredns $COREDNS_VERSION github.com/coredns/coredns
  install_module helm $HELM_VERSION helm.sh/helm/v3/cmd/helm
  [ -f "$CACHE/pause.tar" ] || pause
}
pause() { # the image every pod's sandbox runs
  say "building the pause image"
  local t; t=$(mktemp -d)
  cat >"$t/pause.c" <<C
#include <signal.h>
#include <unistd.h>
static void end(int signal) { _exit(0); }
int main(void) { signal(SIGINT, end); signal(SIGTERM, end); for (;;) pause(); }
C
  gcc -Os -static -s -o "$t/pause" "$t/pause.c"
  printf 'FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n' >"$t/Dockerfile"
  timeout 120 buildah bud -q --isolation chroot -t registry.k8s.io/pause:3.10 "$t" >/dev/null
  rm -f "$CACHE/pause.tar.new" # buildah does not overwrite an archive
  timeout 120 buildah push -q registry.k8s.io/pause:3.10 "docker-archive:$CACHE/pause.tar.new:registry.k8s.io/pause:3.10"
  mv "$CACHE/pause.tar.new" "$CACHE/pause.tar"; rm -rf "$t"
}
