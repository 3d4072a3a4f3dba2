#!/bin/sh
# Trusts the certificates that are mounted at /usr/local/share/ca-certificates beside the usual ones, without
# root and without writing to the image, then becomes the collector.
set -eu
mounted=${CA_CERTIFICATES:-/usr/local/share/ca-certificates}
usual=/etc/ssl/certs/ca-certificates.crt
if [ -z "${SSL_CERT_FILE:-}" ] && [ -d "$mounted" ]; then
  bundle=${TMPDIR:-/tmp}/ca-certificates.crt
  : > "$bundle"
  for file in "$mounted"/*; do
    [ -f "$file" ] || continue
    cat "$file" >> "$bundle"
    echo >> "$bundle"
  done
  if [ -s "$bundle" ]; then
    [ ! -f "$usual" ] || cat "$usual" >> "$bundle"
    export SSL_CERT_FILE="$bundle"
  else
    rm -f "$bundle"
  fi
fi
exec "$@"
