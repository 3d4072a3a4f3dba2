#!/bin/sh
# Trusts the certificates that are mounted at /usr/local/share/ca-certificates beside the usual ones, without
# root and without writing to the image, then becomes the collector. Without such a certificate nothing is
# written at all.
set -eu
mounted=${CA_CERTIFICATES:-/usr/local/share/ca-certificates}
usual=/etc/ssl/certs/ca-certificates.crt
bundle=${TMPDIR:-/tmp}/ca-certificates.crt
if [ -z "${SSL_CERT_FILE:-}" ]; then
  for file in "$mounted"/*; do
    [ -f "$file" ] || continue
    [ -n "${SSL_CERT_FILE:-}" ] || : > "$bundle"
    export SSL_CERT_FILE="$bundle"
    cat "$file" >> "$bundle"
    echo >> "$bundle"
  done
  if [ -n "${SSL_CERT_FILE:-}" ] && [ -f "$usual" ]; then
    cat "$usual" >> "$bundle"
  fi
fi
exec "$@"
