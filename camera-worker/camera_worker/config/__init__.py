"""The worker's configuration: strict YAML whose errors name the line, durations as ``3s``, secrets as ``${ENV}``."""

from almenara.configuration.values import parse_api_url, parse_duration
from camera_worker.config.alarm import AlarmConfig, EvidenceConfig
from camera_worker.config.camera import (
    DEFAULT_FPS,
    CameraConfig,
    Polygon,
    RegionConfig,
    ScheduleConfig,
    check_frozen_after,
)
from camera_worker.config.loading import load_config, parse_config
from camera_worker.config.models import ApiConfig, StatusConfig, WorkerConfig
from camera_worker.config.template import TEMPLATE

__all__ = [
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
    "check_frozen_after",
    "load_config",
    "parse_api_url",
    "parse_config",
    "parse_duration",
]
