"""Object storage that MLflow's server alone speaks to: clients get no links that lead past the server.

MLflow 3.17 offers clients presigned links to its S3 server as soon as the artifacts lie there, and clients then take
them for every download and for uploads of 500 MB and more. The links name the server as MLflow itself reaches it, which
no client of a composed platform can resolve, and there is no switch. MLflow tells by the base classes of a repository
what it offers; this one has none of them, so that everything goes through the server.
"""

from __future__ import annotations

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository


class S3ThroughTheServer(ArtifactRepository):
    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self._storage = S3ArtifactRepository(artifact_uri, tracking_uri=tracking_uri, registry_uri=registry_uri)

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        self._storage.log_artifact(local_file, artifact_path)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        self._storage.log_artifacts(local_dir, artifact_path)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        return self._storage.list_artifacts(path)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        self._storage._download_file(remote_file_path, local_path)

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        self._storage.delete_artifacts(artifact_path)

    def upload_archived_trace_data_bytes(self, data: bytes) -> None:
        self._storage.upload_archived_trace_data_bytes(data)
