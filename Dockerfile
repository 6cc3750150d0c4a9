# The one image of controller and node plugin: `make image` builds this file, and so does the CI.
#
# BASE is pinned by the digest of Debian's multi-architecture index (tag 13.6-slim) and renewed by hand:
# Dependabot reads no FROM of an ARG, which `make image` needs for a base of its own. What runs does not
# depend on its age: Debian's packages, those of the base too, are stable's newest at the time of the
# build. Python's are pinned by hash in requirements-runtime.lock. CEPH_SOURCES takes the text of an apt
# source (deb822 with its key in Signed-By, by http or https) for a newer Ceph than Debian's 18; it must
# serve trixie. PIP_CERT is a CA bundle for a mirror of one's own.
ARG BASE=docker.io/library/debian:trixie-slim@sha256:d7e12182ce18b85b93007c1dedf31f2d29e01ccf3182cc4017c709b6259bc132

FROM ${BASE} AS base
ARG CEPH_SOURCES=""
ENV DEBIAN_FRONTEND=noninteractive
# apt needs CA certificates for a source by https, and the base has none.
RUN [ -z "$CEPH_SOURCES" ] || { \
        apt-get update -qq && apt-get install -qq -y --no-install-recommends ca-certificates \
        && printf '%s\n' "$CEPH_SOURCES" >/etc/apt/sources.list.d/ceph.sources; }

FROM base AS build
ARG PIP_CERT
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends python3-venv
RUN python3 -m venv --system-site-packages /opt/rbdcsi
COPY requirements-runtime.lock /build/
RUN /opt/rbdcsi/bin/pip install --no-cache-dir --require-hashes --only-binary :all: \
        -r /build/requirements-runtime.lock
COPY pyproject.toml hatch_build.py LICENSE /build/
COPY proto /build/proto
COPY rbdcsi /build/rbdcsi
RUN touch /build/README.md \
    && /opt/rbdcsi/bin/pip install --no-cache-dir --no-deps /build \
    && /opt/rbdcsi/bin/python -m pip uninstall -qq -y pip

# What runs: Ceph's bindings, the mappers' programs (krbd needs none), filesystems, mounts, modprobe.
FROM base AS runtime
RUN apt-get update -qq && apt-get upgrade -qq -y \
    && apt-get install -qq -y --no-install-recommends \
        python3 python3-rados python3-rbd \
        rbd-nbd qemu-utils qemu-block-extra \
        e2fsprogs xfsprogs btrfs-progs mount util-linux libudev1 kmod \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* /usr/share/locale /usr/share/man \
    && find /usr/share/doc -type f ! -name copyright -delete
COPY --from=build /opt/rbdcsi /opt/rbdcsi
# Without the empty file mount(8) takes SELinux for switched off, and drops the kubelet's labels.
RUN ln -s /opt/rbdcsi/bin/rbdcsi /usr/local/bin/rbdcsi \
    && install -D /dev/null /etc/selinux/config

# One layer: files that an upper layer replaced or removed take no room.
FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="rbdcsi" \
      org.opencontainers.image.description="Container Storage Interface driver for Ceph RBD with a real attach stage" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=runtime / /
ENTRYPOINT ["/usr/local/bin/rbdcsi"]
