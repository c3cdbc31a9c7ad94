# Shared by the scripts in this folder; source it from bash.

fail() {
    echo "$*" >&2
    exit 1
}

# Print the first Python on PATH that is new enough and can make environments.
find_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11 python; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    fail "Python 3.11 or newer with venv is needed (Debian, Ubuntu: apt-get install python3-venv)."
}

# ensure_venv FOLDER REQUIREMENT...: make FOLDER an environment that holds the requirements.
# A venv is known to be whole by the stamp written last, so one cut short is made anew.
ensure_venv() {
    local folder=$1 python
    shift
    [ "$(cat "$folder/.complete" 2>/dev/null)" = "$*" ] && "$folder/bin/python" -c '' 2>/dev/null && return
    python=$(find_python) || exit 1
    "$python" -m venv --clear "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    echo "$*" >"$folder/.complete"
}

# Install redis-server from the system's packages where it is missing and we may; else say how, and fail.
ensure_redis_server() {
    command -v redis-server >/dev/null && return
    local sudo=""
    if [ "$(id -u)" != 0 ]; then sudo="sudo -n"; fi
    if command -v apt-get >/dev/null && $sudo true 2>/dev/null; then
        echo "installing redis-server from the system's packages" >&2
        # RUNLEVEL=1 keeps the package from starting a service: the tests start servers of their own.
        { $sudo apt-get update -qq &&
            $sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
                apt-get install -y -qq --no-install-recommends redis-server; } >/dev/null 2>&1 || true
    fi
    command -v redis-server >/dev/null ||
        fail "redis-server is needed: apt-get install redis-server, dnf install redis or brew install redis."
}
