"""Build the book and serve it on this machine: ``make serve PORT=8000``."""

import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(port: str) -> int:
    """Take the port, build, and serve until Ctrl+C; return the exit code."""
    try:
        handler = partial(SimpleHTTPRequestHandler, directory=str(ROOT / "_build" / "html"))
        server = ThreadingHTTPServer(("127.0.0.1", int(port)), handler)
    except (ValueError, OverflowError):
        print(f"refused: PORT is {port!r}: a number from 1 to 65535 is needed", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"refused: PORT {port}: {error.strerror}; make serve PORT=8001 takes another", file=sys.stderr)
        return 2
    with server:
        try:
            subprocess.run([sys.executable, str(ROOT / "book" / "build.py")], check=True)
            print(f"The book: http://127.0.0.1:{server.server_port}/ (Ctrl+C ends it)", flush=True)
            server.serve_forever()
        except subprocess.CalledProcessError as error:  # it has said why
            return error.returncode
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
