#!/usr/bin/env bash
# Make a Debian package for the release that this machine runs: `packaging/debian/build.sh FOLDER`.
#
# It carries a virtual environment of its own in /opt/sarwater, built for this machine's Python and libgdal, which it then
# depends on; units, account and settings as `make install` has them. Nothing else is touched on this machine, except
# that environment.sh brings a compiler and libgdal-dev where they are missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=packaging/debian
mkdir -p "$1"
to=$(realpath "$1")
export PYTHON=${PYTHON:-/usr/bin/python3}  # the one that the package may depend on
command -v dpkg-deb >/dev/null || { echo "dpkg-deb not found: build the package on Debian or Ubuntu" >&2; exit 78; }

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
version=$("$PYTHON" -c 'import re; print(re.search(r"__version__ = \"(.+)\"", open("sarwater/__init__.py").read())[1])')
make --no-print-directory install DESTDIR="$tree" RELEASE="$version" \
    BIN=/usr/bin UNITS=/usr/lib/systemd/system DOCS=/usr/share/doc/sarwater
program=$tree/opt/sarwater/releases/$version
rm -f "$program/ready"
sed -i 's|/usr/local/share/doc/sarwater|/usr/share/doc/sarwater|' "$tree"/usr/lib/systemd/system/*.service
install -D -m 644 LICENSE "$tree/usr/share/doc/sarwater/copyright"
mkdir -p "$tree/DEBIAN"

minor=$("$PYTHON" -c 'import sys; print(sys.version_info.minor)')
# The package that the binding's libgdal belongs to.
library=$(ldd "$program"/lib/python3.*/site-packages/osgeo/_gdal*.so | awk '/libgdal/ {print $3}' | sort --unique)
gdal=$(dpkg-query --search "$(realpath "$library")" | cut -d: -f1)

cat > "$tree/DEBIAN/control" <<CONTROL
Package: sarwater
Version: $version
Section: science
Priority: optional
Architecture: $(dpkg --print-architecture)
Depends: python3 (>= 3.$minor), python3 (<< 3.$((minor + 1))), $gdal, libstdc++6, systemd | systemd-standalone-sysusers
Suggests: qgis, prometheus-node-exporter
Installed-Size: $(du --summarize --block-size=1024 "$tree" | cut -f1)
Maintainer: sarwater contributors <sarwater@localhost>
Description: SAR scenes to water masks, beside the antenna
 Watches a folder and turns each radar scene that arrives into a georeferenced
 water mask, with polygons, a picture and a catalogue entry. The program is in
 /opt/sarwater, its settings are in /etc/sarwater/watch.toml.
CONTROL
(cd "$tree" && find etc -type f -printf '/%p\n' | sort) > "$tree/DEBIAN/conffiles"
install -m 755 -t "$tree/DEBIAN" "$here/postinst" "$here/prerm" "$here/postrm"
dpkg-deb --root-owner-group -Zxz -z1 --build "$tree" "$to/sarwater_${version}_$(dpkg --print-architecture).deb"
