"""The simulated camera as a whole: its servers, its faults, and the pump that paces pictures."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from almenara.errors import InputError
from camera_worker.simulator.connections import Door
from camera_worker.simulator.control import ControlServer
from camera_worker.simulator.encoder import RTP_CLOCK_HZ
from camera_worker.simulator.faults import CONTROL_HELP, MOMENTARY, Fault, FaultKind, FaultSwitch
from camera_worker.simulator.http_server import HttpServer
from camera_worker.simulator.login import Authenticator, LoginScheme
from camera_worker.simulator.rtsp_server import RtspServer
from camera_worker.simulator.scenes import PictureSource
from camera_worker.simulator.studio import Studio

_CUTTING = {FaultKind.RESET, FaultKind.REFUSE, FaultKind.UNAUTHORISED, FaultKind.AWAY}


class SimulatedCamera:
    """A camera: RTSP (H.264 over interleaved TCP or UDP), and HTTP (MJPEG and snapshots) if so wished.

    Pictures are drawn and encoded once for all clients, and only while somebody watches. As with a real camera, a
    client that does not keep up loses pictures, over RTSP up to the next key frame.

    Args:
        pictures: the picture at a time in seconds since the start, RGB, any size (it is resized).
        width, height: of the stream, pixels, even.
        fps: frames per second.
        host: address that pictures are served on; faults are switched on loopback always.
        user, password: Digest or Basic credentials that clients need; none when `user` is None.
        login: which of the two the camera asks for.
        keyframe_interval: seconds from one key frame to the next.
        keyframe_on_play: whether a new client gets a key frame at once; cheap cameras let it wait for the next.
        loop: seconds that are encoded once and sent over and over; None encodes every picture.
    """

    def __init__(
        self,
        pictures: PictureSource,
        *,
        width: int = 640,
        height: int = 480,
        fps: int = 15,
        host: str = "127.0.0.1",
        user: str | None = None,
        password: str | None = None,
        login: LoginScheme = "digest",
        keyframe_interval: float = 2.0,
        keyframe_on_play: bool = True,
        loop: float | None = None,
    ) -> None:
        self._fps, self._host = fps, host
        self._faults = FaultSwitch()
        self._studio = Studio(
            pictures,
            width=width,
            height=height,
            fps=fps,
            keyframe_interval=keyframe_interval,
            loop=loop,
            faults=self._faults,
        )
        authenticator = Authenticator(user, password, login)
        self._rtsp = RtspServer(
            self._studio, self._faults, authenticator, host=host, fps=fps, keyframe_on_play=keyframe_on_play
        )
        self._http = HttpServer(self._faults, authenticator, host)
        self._control = ControlServer(self.obey)
        self._rtsp_door, self._http_door = Door(self._rtsp.listen), Door(self._http.listen)
        self._control_door = Door(self._control.listen)
        self._pump: asyncio.Task[None] | None = None
        self._healing: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="simulated-camera")

    @property
    def fault(self) -> Fault:
        return self._faults.fault

    @property
    def port(self) -> int:
        return self._rtsp_door.port

    @property
    def http_port(self) -> int:
        """0 without HTTP."""
        return self._http_door.port

    @property
    def control_port(self) -> int:
        """0 without a control port."""
        return self._control_door.port

    @property
    def url(self) -> str:
        """Address of the stream, without credentials."""
        return f"rtsp://{self._host}:{self.port}/cam"

    @property
    def mjpeg_url(self) -> str:
        """Address of the stream of JPEG pictures, without credentials."""
        return f"http://{self._host}:{self.http_port}/mjpeg"

    @property
    def snapshot_url(self) -> str:
        """Address of single JPEG pictures, without credentials."""
        return f"http://{self._host}:{self.http_port}/snapshot.jpg"

    async def start(self, port: int = 0, control_port: int | None = None, http_port: int | None = None) -> None:
        """Listens; port 0 takes a free one. ConfigurationError when a port is taken."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._studio.prepare)
        await self._rtsp_door.open(port)
        if control_port is not None:
            await self._control_door.open(control_port)
        if http_port is not None:
            await self._http_door.open(http_port)
        self._pump = asyncio.create_task(self._pace())

    async def stop(self) -> None:
        """Stops listening and cuts every client."""
        if self._healing:
            self._healing.cancel()
        if self._pump:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        for door in (self._rtsp_door, self._http_door, self._control_door):
            door.shut()
        for server in (self._rtsp, self._http, self._control):
            await server.stop()
        self._thread.shutdown()

    def switch(self, fault: Fault) -> None:
        """Puts a fault on, in the camera's event loop; `reset` and `resize` happen once and leave it healthy."""
        if self._healing:
            self._healing.cancel()
            self._healing = None
        self._faults.fault = Fault() if fault.kind in MOMENTARY else fault
        for door in (self._rtsp_door, self._http_door):
            if fault.kind is FaultKind.AWAY:
                door.shut()
            else:
                door.reopen()
        if fault.kind in _CUTTING:
            self._rtsp.cut()
            self._http.cut()
        if fault.size:
            self._studio.resize(*fault.size)
            self._rtsp.key_frame_wanted = True
        if fault.lasting is not None:
            self._healing = asyncio.get_running_loop().call_later(fault.lasting, self.switch, Fault())

    def obey(self, line: str) -> str:
        """Does what a line of the control protocol says, and answers."""
        if line == "help":
            return CONTROL_HELP
        if line != "status":
            try:
                self.switch(Fault.parse(line))
            except InputError as error:
                return f"error: {error}\n"
        clients = self._rtsp.watching + self._http.watching
        sent = self._rtsp.packets_sent + self._http.pictures_sent
        return f"ok fault={self.fault.kind} clients={clients} packets={sent}\n"

    async def finished(self) -> None:
        """Returns when the pump has ended, which it does only by an error (raised here) or by `stop`."""
        if self._pump:
            await self._pump

    async def _pace(self) -> None:
        start, number = time.monotonic(), 0
        while True:
            number += 1
            delay = start + number / self._fps - time.monotonic()
            if delay < -1:  # the machine was busy: go on from here instead of hurrying
                start -= delay
            await asyncio.sleep(max(0.0, delay))
            if not self._faults.on(FaultKind.STALL):
                await self._send_picture(number)

    async def _send_picture(self, number: int) -> None:
        video, jpeg = self._rtsp.watching > 0, self._http.wants_pictures
        if not video and not jpeg:
            return
        key_frame, self._rtsp.key_frame_wanted = self._rtsp.key_frame_wanted, False
        shoot = partial(self._studio.shoot, number / self._fps, video=video, jpeg=jpeg, key_frame=key_frame)
        shot = await asyncio.get_running_loop().run_in_executor(self._thread, shoot)
        if self._faults.on(FaultKind.STALL):
            return
        if shot.units:
            self._rtsp.send(shot.units, number * RTP_CLOCK_HZ // self._fps)
        if shot.jpeg:
            self._http.send(shot.jpeg)
