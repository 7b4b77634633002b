#!/bin/sh
# Cargo's RUSTC_WRAPPER: coverage is of what reads the bytes. Instrumenting the other dependencies as well would make the
# build longer, and guide the mutations by what the runtime does.
case "$*" in
*--target*) crate=$CARGO_CRATE_NAME ;;
# What runs while building has no libFuzzer to link with.
*) crate= ;;
esac
case "$crate" in
chord | chord_client | chord_gateway | chord_node | chord_operator | chord_proto | fuzz | prost | serde_json | sim | tonic)
    exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1
    ;;
esac
exec "$@"
