#!/bin/sh
# Makes the dumps in this directory anew with the redis-server of the machine (Debian 12: 7.0.15,
# RDB version 10): sh make.sh
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
redis-server --port 0 --unixsocket "$work/socket" --dir "$work" --save '' --daemonize yes \
    --pidfile "$work/pid" > "$work/log"
redis() { redis-cli -s "$work/socket" "$@" > "$work/last"; }
until redis ping 2> "$work/err"; do :; done

keep() {
    redis save
    cp "$work/dump.rdb" "$1"
    redis flushall
}

# Strings as Redis encodes them: raw, 8, 16 and 32 bits, LZF; short and long lengths; any bytes.
redis set plain value
redis set empty ''
for number in 0 127 -128 128 32767 -32768 32768 2147483647 -2147483648 2147483648 007; do
    redis set "number:$number" "$number"
done
redis set 12345 'a key that is a number'
redis set packed "$(printf 'abcabcabc%.0s' $(seq 100))"
redis set run "$(printf 'z%.0s' $(seq 5000))"
head -c 20000 /dev/zero | redis -x set zeros
seq 1 400 | sha256sum | head -c 64 | redis -x set hash
seq 1 8000 | openssl enc -aes-128-ctr -K 00 -iv 00 -nosalt 2> "$work/err" | redis -x set random
printf '\377\000|\n' | redis -x set bytes
redis set a/b/c 'below directories'
keep strings.rdb

# Times of expiry: none, one far ahead, and one that is over when the dump is read.
redis set lasting 1
redis set ahead 2 EXAT 4000000000
redis set gone 3 EX 5
keep expiry.rdb

redis set first 0
redis -n 3 set second 3
keep databases.rdb

redis set string s
redis rpush list a b c
redis rpush longlist $(seq 1 600) "$(printf 'x%.0s' $(seq 10000))"
redis sadd set a b
redis sadd numbers 1 2 3
redis sadd manyset $(seq -f 'member-%g' 1 600)
redis zadd zset 1 a 2.5 b
redis zadd manyzset $(for n in $(seq 1 300); do echo "$n.5 m$n"; done)
redis hset hash a 1 b 2
redis hset manyhash $(for n in $(seq 1 600); do echo "f$n v$n"; done)
redis xadd stream '*' field value
redis xgroup create stream group 0
redis xreadgroup GROUP group consumer COUNT 1 STREAMS stream '>'
redis xadd stream '*' field other
redis function load "#!lua name=lib
redis.register_function('f', function() return 1 end)"
redis set last l
keep types.rdb

redis config set rdbcompression no
redis config set rdbchecksum no
redis set unpacked "$(printf 'abcabcabc%.0s' $(seq 100))"
keep plain.rdb
kill "$(cat "$work/pid")"
rm -r "$work"
