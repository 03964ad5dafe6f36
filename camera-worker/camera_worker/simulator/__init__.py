"""A simulated camera: a real RTSP and HTTP server with its own encoder, whose faults are switched at run time."""

from camera_worker.simulator.control import command
from camera_worker.simulator.faults import CONTROL_HELP, Fault, FaultKind
from camera_worker.simulator.server import SimulatedCamera

__all__ = ["CONTROL_HELP", "Fault", "FaultKind", "SimulatedCamera", "command"]
