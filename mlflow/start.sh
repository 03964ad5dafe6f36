#!/bin/sh
# Starts the MLflow tracking server and registry, or makes databases and brings MLflow's to the installed release:
#   start-mlflow serve
#   start-mlflow migrate [DATABASE ...]
set -eu

export MLFLOW_DISABLE_TELEMETRY=true
export DO_NOT_TRACK=true
# Background jobs are not used here and take 1.3 GB of memory.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false

database=${MLFLOW_BACKEND_STORE_URI:?is not set: the address of the database, without its password (PGPASSWORD)}

case ${1:-serve} in
migrate)
    shift
    python "$(dirname "$(readlink -f "$0")")/make_databases.py" "$@"
    exec mlflow db upgrade "$database"
    ;;
serve)
    # What was on its way when the server was killed.
    [ -z "${TMPDIR:-}" ] || rm -rf "${TMPDIR:?}"/tmp*
    # Artifacts go through the server: clients need no credentials of the object storage.
    exec mlflow server \
        --host "${MLFLOW_HOST:-0.0.0.0}" \
        --port "${MLFLOW_PORT:-5000}" \
        --workers "${MLFLOW_WORKERS:-2}" \
        --backend-store-uri "$database" \
        --artifacts-destination "${MLFLOW_ARTIFACTS_DESTINATION:?is not set: s3://BUCKET or a folder}" \
        --allowed-hosts "${MLFLOW_ALLOWED_HOSTS:-mlflow,mlflow:5000,localhost:*,127.0.0.1:*}"
    ;;
*)
    echo "start-mlflow: '$1' is neither serve nor migrate." >&2
    exit 2
    ;;
esac
