"""The worker's configuration: strict YAML whose errors name the line, durations as ``3s``, secrets as ``${ENV}``."""

from camera_worker.config.alarm import AlarmConfig, EvidenceConfig
from camera_worker.config.camera import DEFAULT_FPS, CameraConfig, Polygon, RegionConfig, ScheduleConfig
from camera_worker.config.loading import load_config, parse_config
from camera_worker.config.models import API_URL, ApiConfig, StatusConfig, WorkerConfig
from camera_worker.config.template import TEMPLATE
from camera_worker.config.values import parse_duration

__all__ = [
    "API_URL",
    "DEFAULT_FPS",
    "TEMPLATE",
    "AlarmConfig",
    "ApiConfig",
    "CameraConfig",
    "EvidenceConfig",
    "Polygon",
    "RegionConfig",
    "ScheduleConfig",
    "StatusConfig",
    "WorkerConfig",
    "load_config",
    "parse_config",
    "parse_duration",
]
