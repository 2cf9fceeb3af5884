#!/bin/sh
# Print the Python that keypipe's environment is made of: the one that is named, else the one that it was made of before,
# else `python3` or the newest `python3.N` of the PATH, else one that uv keeps. Called by make: find_python.sh FOLDER [NAME]
folder=$1 named=$2
range='>=3.11,!=3.14.1,<3.15'
said='Python 3.11, 3.12, 3.13 or 3.14'

# An environment is made of the interpreter below another environment, hence the base.
look() {
    "$1" - <<'END' 2>/dev/null
import sys, sysconfig
fits = (3, 11) <= sys.version_info[:2] < (3, 15) and sys.implementation.name == "cpython"
fits = fits and sys.version_info[:3] != (3, 14, 1) and not sysconfig.get_config_var("Py_GIL_DISABLED")
try:
    import ensurepip, venv
except ImportError:
    fits = fits and "without venv"
print({True: "fits", False: "another version"}.get(fits, fits), sys.version.split()[0], getattr(sys, "_base_executable", sys.executable), sep="\t")
END
}

seen=
try() {
    answer=$(look "$1") || return 1
    state=$(echo "$answer" | cut -f1) version=$(echo "$answer" | cut -f2) path=$(echo "$answer" | cut -f3)
    # uv makes environments without the module venv.
    if [ "$state" = fits ] || { [ "$state" = "without venv" ] && command -v uv >/dev/null; }; then
        echo "$path"
        exit 0
    fi
    seen="$seen
  $1 is $version$([ "$state" = "without venv" ] && echo ", but lacks its module venv (Debian, Ubuntu: apt install python${version%.*}-venv)")"
    return 0
}

if [ -n "$named" ]; then
    try "$named" || seen="
  $named does not run"
else
    [ -x "$folder/bin/python3" ] && try "$folder/bin/python3"
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        old_ifs=$IFS IFS=:
        for directory in $PATH; do
            [ -x "$directory/$name" ] && try "$directory/$name"
        done
        IFS=$old_ifs
    done
    if command -v uv >/dev/null; then
        kept=$(uv python find --no-python-downloads "$range" 2>/dev/null) && try "$kept"
    fi
fi

{
    echo "keypipe needs $said (3.11.0 at least); found: ${seen:-none}"
    echo "Install one of them with its module venv (on Debian or Ubuntu: apt install python3-venv), or name yours:"
    echo "  make PYTHON=/path/to/python3"
    command -v uv >/dev/null && printf '%s\n' "uv fetches one if you want it to:" \
        "  uv python install 3.13 && make PYTHON=\"\$(uv python find 3.13)\""
} >&2
exit 1
