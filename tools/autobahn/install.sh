#!/usr/bin/env bash
# The Autobahn test suite runs on Python 2.7 only: puts both into the folder given, touching nothing else of the system.
# Needs Linux on x86-64 with Debian's apt; Python 2.7 comes from Debian 11. With a C compiler the client masks and validates
# in C (wsaccel), which is most of what the long cases take.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
python3=${PYTHON:-python3}
[ -e "$folder/.installed" ] && exit 0

apt=$folder/apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$folder/debs" "$folder/boot"
mirror=$(grep -rhoE 'https?://[^ ]*/debian/?( |$)' /etc/apt/sources.list* 2>/dev/null | head -1 | tr -d ' ' || true)
[ -n "$mirror" ] || { echo 'no Debian mirror is configured here' >&2; exit 1; }
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] $mirror bullseye main" > "$apt/sources.list"
options=(-o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$apt/lists"
  -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root)
apt-get "${options[@]}" update -q
(cd "$folder/debs" && apt-get "${options[@]}" download -q python2.7 python2.7-minimal libpython2.7-minimal \
  libpython2.7-stdlib libpython2.7-dev libffi7 libssl1.1)
for deb in "$folder"/debs/*.deb; do dpkg -x "$deb" "$folder/root"; done

"$python3" -m pip download --quiet --no-deps --dest "$folder/wheels" pip==20.3.4 setuptools==44.1.1 wheel==0.37.1
for wheel in "$folder"/wheels/*.whl; do "$python3" -m zipfile -e "$wheel" "$folder/boot"; done
# Its metadata asks for more than the client needs, so only the source is taken.
"$python3" -m pip download --quiet --no-deps --dest "$folder/suite" autobahntestsuite==25.10.1
tar xzf "$folder"/suite/autobahntestsuite-*.tar.gz -C "$folder/suite"

cat > "$folder/python2" <<RUN
#!/usr/bin/env bash
export PYTHONHOME=$folder/root/usr LD_LIBRARY_PATH=$folder/root/usr/lib/x86_64-linux-gnu
export PYTHONPATH=$folder/site:$folder/boot PIP_CONFIG_FILE=/dev/null
exec $folder/root/usr/bin/python2.7 "\$@"
RUN
chmod +x "$folder/python2"
"$folder/python2" -m pip install --quiet --no-deps --target "$folder/site" -r "$here/requirements.txt"
touch "$folder/site/zope/__init__.py"
if command -v gcc > /dev/null; then
  CC=gcc LDSHARED='gcc -shared' CFLAGS="-I$folder/root/usr/include -I$folder/root/usr/include/python2.7" \
    "$folder/python2" -m pip install --quiet --no-deps --no-build-isolation --target "$folder/site" wsaccel==0.6.2
fi
cp -r "$folder"/suite/autobahntestsuite-25.10.1/autobahntestsuite "$folder/site/"
touch "$folder/.installed"
