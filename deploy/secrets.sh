#!/bin/sh
# Makes the secrets of a deployment, in deploy/secrets/. What is there is kept, so that
# running it again makes only what is missing; remove a file to have a new one.
#
# The folder is for its owner alone. The files in it can be read by anybody who can enter it:
# the containers, which run as another user, are handed single files of it.
set -eu
umask 022
folder=$(dirname "$0")/secrets
mkdir -p "$folder"
chmod 700 "$folder"

password() {
    od -An -tx1 -N32 /dev/urandom | tr -d ' \n'
}

for user in order stock point coupon cart provision look; do
    [ -s "$folder/nats_$user" ] || password > "$folder/nats_$user"
done
for role in admin order stock point coupon cart; do
    [ -s "$folder/postgres_$role" ] || password > "$folder/postgres_$role"
done
[ -s "$folder/grafana_admin" ] || password > "$folder/grafana_admin"

# The broker's side of it.
{
    echo "# Written by deploy/secrets.sh."
    for user in order stock point coupon cart provision look; do
        echo "password_$user: \"$(cat "$folder/nats_$user")\""
    done
} > "$folder/nats_passwords.conf"

# Who signs the tokens of this deployment. The services have the public half.
if [ ! -s "$folder/token_key.pem" ]; then
    openssl genpkey -algorithm ed25519 -out "$folder/token_key.pem"
fi
openssl pkey -in "$folder/token_key.pem" -pubout -out "$folder/token_public.pem"
chmod 644 "$folder"/*
