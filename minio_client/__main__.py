"""`python -m minio_client` is the command `minio-client`."""

from minio_client.cli import main

main()
