# Shared by the benchmarks; source it from the project's root.
#   bench_text DIRECTORY TRIREME   DIRECTORY/text.bin: token file of some megabytes, of this project's words
bench_text() {
    cat LICENSE docs/*.md README.md >"$1/text"
    while [ "$(stat -c %s "$1/text")" -lt 2000000 ]; do
        cat "$1/text" "$1/text" >"$1/more"
        mv "$1/more" "$1/text"
    done
    "$2" data prepare "$1/text" -o "$1/text.bin" >/dev/null
}
