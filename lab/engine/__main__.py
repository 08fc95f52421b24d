"""python3 -m engine (in an image) or python3 -m lab.engine (in the tree)"""

import os
import signal
import sys
from typing import NoReturn

from . import VERSION, native, openai
from .generation import Engine
from .runner import Scheduler
from .serve import Server
from .settings import Settings
from .store import Store


def main() -> NoReturn:
    try:
        settings = Settings.from_environment(os.environ)
        store = Store(settings.models)
    except (ValueError, OSError) as error:
        sys.exit(f"engine: {error}")
    scheduler = Scheduler(settings)
    engine = Engine(store, scheduler, settings.keep_alive)
    try:
        server = Server((settings.host, settings.port), native.routes(engine) | openai.routes(engine), settings.origins)
    except OSError as error:
        sys.exit(f"engine: cannot listen on {settings.host}:{settings.port}: {error.strerror}")

    def stop(_signal: int, _frame: object) -> NoReturn:
        # The models' processes end with this one; nothing here needs to be put away.
        os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    host, port = server.server_address[:2]
    print(f"llama.cpp stand-in for Ollama, {VERSION}, on {host!s}:{port}, models in {settings.models}", flush=True)
    server.serve_forever()
    sys.exit(1)


if __name__ == "__main__":
    main()
