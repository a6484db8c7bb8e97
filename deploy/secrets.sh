#!/bin/sh
# Makes what docker-compose.yml reads from deploy/secrets: passwords, an authority, certificates.
#
#   deploy/secrets.sh            what is there already stays: passwords must not change under a database
#   DAYS=30 deploy/secrets.sh    certificates for 30 days (825 by default); delete the old ones first
#   HOSTS="DNS:registry.example.com" deploy/secrets.sh    more names in the services' certificates
#
# Needs openssl only. Files are readable by the user who runs this (10001 instead of root), and the
# containers run as that user (.env). Nothing is printed but names. Keep ca.key elsewhere once all
# is issued.
set -eu
umask 077
cd "$(dirname "$0")/.."
directory=deploy/secrets
mkdir -p "$directory"

absent() { [ ! -s "$directory/$1" ] && echo "making $directory/$1"; }

password() {
    if absent "$1"; then openssl rand -hex 24 | tr -d '\n' >"$directory/$1"; fi
}

authority() {
    if absent ca.pem; then
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
            -subj "/CN=Lorikeet $(openssl rand -hex 4)" \
            -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
            -keyout "$directory/ca.key" -out "$directory/ca.pem" 2>/dev/null
    fi
}

certificate() {
    if absent "$1.pem"; then
        extensions=$(mktemp)
        printf '%s\n' "subjectAltName=DNS:$1,DNS:localhost,IP:127.0.0.1${HOSTS:+,$HOSTS}" \
            basicConstraints=critical,CA:FALSE keyUsage=critical,digitalSignature \
            extendedKeyUsage=serverAuth >"$extensions"
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" \
            -keyout "$directory/$1.key" 2>/dev/null |
            openssl x509 -req -CA "$directory/ca.pem" -CAkey "$directory/ca.key" \
                -days "${DAYS:-825}" -extfile "$extensions" -out "$directory/$1.pem" 2>/dev/null
        rm -f "$extensions"
    fi
}

for name in postgres_password grafana_password s3_access_key_id s3_secret_access_key; do
    password "$name"
done
if absent database_url; then
    printf 'postgresql+psycopg://lorikeet:%s@postgres:5432/lorikeet?sslmode=verify-full&sslrootcert=/run/secrets/ca.pem' \
        "$(cat "$directory/postgres_password")" >"$directory/database_url"
fi
authority
for service in postgres s3 registry inference; do certificate "$service"; done
if [ ! -s .env ]; then
    user=$(id -u) group=$(id -g)
    if [ "$user" = 0 ]; then user=10001 group=10001; fi # PostgreSQL, for one, does not run as root
    printf 'LORIKEET_UID=%s\nLORIKEET_GID=%s\n' "$user" "$group" >.env
fi
if [ "$(id -u)" = 0 ]; then
    . ./.env
    chown -R "$LORIKEET_UID:$LORIKEET_GID" "$directory"
fi
