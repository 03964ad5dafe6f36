"""How soon the camera worker says that it is blind, how old its pictures are, what it costs, and whether it leaks.

Run it with ``make bench-camera``, or ``python -m benchmarks.camera [--quick] [--only blindness,age]``. It starts the
worker's own command, simulated cameras and a scoring API, each in a process of its own, and looks at the worker from
outside: at its log, its verdicts, /cameras, and the pictures that arrive at the API. Pictures carry the time at which
they were taken, so ages are true ages: of the picture, not of what the worker believes.

How to read it
    Each row answers one question: figures, what was promised, and the verdict. *Inconclusive* means that the machine
    was too busy to tell: a trial during which an idle thread woke more than 20 ms late (p99) is void, and more than a
    fifth of void trials prove nothing, neither good nor bad. Longest times (``max_net``) are net of that lateness.
    What never came is a failure, however busy the machine was. ``same_against_same`` is our own worker against itself;
    no other ratio can be trusted further than that one.
    The last line is everything as JSON. Missing a target never makes the command fail; not running does.

What is measured
    blindness   faults (stall, reset, 503, 401, a camera that never answers) until the worker says so; default timeouts
    restarts    a camera killed and started again, from the moment it listens until it is scored; it begins with a
                key frame, so that there is none to wait for
    age         pictures behind a model four times too slow, beside OpenCV's read loop
    isolation   four cameras while a fifth is stalled, against the same four while it is not
    quality     frozen and black pictures said, damaged ones (as another reader saw them) not scored, a new resolution
    loss        turns that are still scored when two packets in a hundred are lost, by TCP and by UDP
    leaks       memory, threads and descriptors over thousands of failures
    cost        processor time a camera, beside decoding alone; void where either decoded too few pictures
    static      an hour of a scene in which nothing moves, in file time

``--quick`` takes a few trials of each, void ones too, two questions at a time; it judges nothing and shows that
everything runs.
"""
