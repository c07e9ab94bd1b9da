"""The ASGI application: Django as WSGI in threads, WebSockets by Channels, raw streams beside them.

Django's own ASGI path was measured 3-5 times slower than WSGI in a thread pool. A stream would hold one
of those threads, so streams are raw ASGI applications of their apps.
"""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ntd_site.settings")

from django.core.wsgi import get_wsgi_application

wsgi = get_wsgi_application()

from channels.routing import ProtocolTypeRouter

from ntd_site.bridge import Bridge
from ntd_site.routing import http_streams, websockets
from scaling import heart

# `?wait=` holds a thread for up to a minute, so there are more threads than cores would ask for.
THREADS = 48

application = ProtocolTypeRouter(
    {
        "http": http_streams(otherwise=Bridge(wsgi, threads=THREADS)),
        "websocket": websockets,
    }
)

if os.environ.get("NTD_PROCESS") == "web":  # served, not merely imported by a test
    heart.start("web")
