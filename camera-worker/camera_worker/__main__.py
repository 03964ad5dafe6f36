"""Makes `python -m camera_worker` the `camera-worker` command."""

from camera_worker.cli import main

if __name__ == "__main__":
    main()
