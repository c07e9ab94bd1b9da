"""Settings from the environment. README.md lists every variable; checks.py refuses wrong combinations.

Without `DATABASE_URL` and `REDIS_URL` they point at the embedded servers that `manage.py up` runs.
"""

import base64
import hashlib
import secrets
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import environ
import structlog

from ntd_site import embedded, schedules
from sandboxes.daemon import egress

env = environ.Env()
ROOT = Path(__file__).resolve().parent.parent

# --- where state lives, and the two servers ---------------------------------------------------
NTD_ENV = env("NTD_ENV", default="development")
NTD_HOME = Path(env("NTD_HOME", default=str(ROOT / ".ntd"))).expanduser().resolve()
EMBEDDED_POSTGRES = not env("DATABASE_URL", default="")
EMBEDDED_REDIS = not env("REDIS_URL", default="")
PLACE = embedded.place(NTD_HOME)
DATABASE_URL = env("DATABASE_URL", default="") or PLACE.database_url
REDIS_URL = env("REDIS_URL", default="") or PLACE.redis_url

DEBUG = env.bool("DEBUG", default=False)
NTD_TEST_CLOCK = env.bool("NTD_TEST_CLOCK", default=False)


def _secret_key() -> str:
    given: str = env("SECRET_KEY", default="")
    if given:
        return given
    file = NTD_HOME / "secret-key"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(50))
    return file.read_text()


SECRET_KEY = _secret_key()
# Former ones, which still open what was sealed and signed with them.
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
BASE_URL = env("NTD_BASE_URL", default="http://127.0.0.1:8000").rstrip("/")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]", "testserver"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[BASE_URL] if "://" in BASE_URL else [])

# --- the specification's configuration --------------------------------------------------------
TOPOLOGY = env("NTD_TOPOLOGY", default="mesh")
MAX_SANDBOXES = env.int("NTD_MAX_SANDBOXES", default=10)
KEPT_SANDBOXES = env.int("NTD_KEPT_SANDBOXES", default=10)
MAX_AGENTS = env.int("NTD_MAX_AGENTS", default=50)
AUTO_SCALE = env.bool("NTD_AUTO_SCALE", default=True)
DEFAULT_CREDITS = env.int("DEFAULT_CREDITS", default=1000)
CREDIT_PRICE = env("CREDIT_PRICE", default="0.01")
CREDIT_CURRENCY = env("CREDIT_CURRENCY", default="EUR")
# Who sends the invoices, how they are numbered, and how long there is to pay.
SELLER_NAME = env("SELLER_NAME", default="ntd")
SELLER_ADDRESS = env("SELLER_ADDRESS", default="")
SELLER_TAX_ID = env("SELLER_TAX_ID", default="")
INVOICE_PREFIX = env("INVOICE_PREFIX", default="")
CREDIT_NOTE_PREFIX = env("CREDIT_NOTE_PREFIX", default="CN")
# 0: staff close periods by hand.
INVOICE_CLOSE_AFTER_HOURS = env.int("INVOICE_CLOSE_AFTER_HOURS", default=0)
REVERSE_CHARGE_TEXT = env(
    "REVERSE_CHARGE_TEXT", default="Reverse charge: the customer owes the tax (Art. 196, Directive 2006/112/EC)."
)
PAYMENT_TERMS_DAYS = env.int("PAYMENT_TERMS_DAYS", default=14)
# Where customers send money; no bank transfers without it.
BANK_IBAN = "".join(env("BANK_IBAN", default="").split()).upper()
BANK_BIC = env("BANK_BIC", default="").strip().upper()
BANK_ACCOUNT_HOLDER = env("BANK_ACCOUNT_HOLDER", default=SELLER_NAME)
E2B_API_KEY = env("E2B_API_KEY", default="")
E2B_DOMAIN = env("E2B_DOMAIN", default="")
E2B_API_URL = env("E2B_API_URL", default="").rstrip("/")
E2B_SANDBOX_URL = env("E2B_SANDBOX_URL", default="").rstrip("/")
# The one has numpy and pandas as our own sandboxes have, the other is E2B's smallest and has Node.
E2B_TEMPLATE_PYTHON = env("E2B_TEMPLATE_PYTHON", default="code-interpreter-v1")
E2B_TEMPLATE_NODE = env("E2B_TEMPLATE_NODE", default="base")
E2B_SANDBOX_CPUS = env.int("E2B_SANDBOX_CPUS", default=2)
E2B_SANDBOX_MEMORY_MB = env.int("E2B_SANDBOX_MEMORY_MB", default=512)
E2B_LONGEST_SECONDS = env.int("E2B_LONGEST_SECONDS", default=3600)
E2B_MAX_SANDBOXES = env.int("E2B_MAX_SANDBOXES", default=20)
DEFAULT_RUNTIMES = env.list("NTD_DEFAULT_RUNTIMES", default=["local"])
PAYMENT_GATEWAY_URL = env("PAYMENT_GATEWAY_URL", default="")
STRIPE_API_KEY = env("STRIPE_API_KEY", default="").strip()
STRIPE_API_URL = env("STRIPE_API_URL", default="https://api.stripe.com").rstrip("/")
STRIPE_WEBHOOK_SECRETS = env("STRIPE_WEBHOOK_SECRET", default="").replace(",", " ").split()
# Its payments cost nothing, so it is off where real ones are taken.
SIMULATED_GATEWAY = env.bool(
    "NTD_SIMULATED_GATEWAY", default=not (PAYMENT_GATEWAY_URL or STRIPE_API_KEY) and NTD_ENV != "production"
)

# Payments in USDC: off without a node and something to derive addresses from. The simulated chain needs neither.
SIMULATED_CHAIN = env.bool("NTD_SIMULATED_CHAIN", default=False)
USDC_RPC_URL = env("NTD_USDC_RPC_URL", default="")
USDC_NETWORK = env("NTD_USDC_NETWORK", default="eip155:8453")
USDC_TOKENS = {
    "eip155:1": "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48",
    "eip155:8453": "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913",
    "eip155:84532": "0x036cbd53842c5426634e7929541ec2318f3dcf7e",
}
USDC_TOKEN = env("NTD_USDC_TOKEN", default=USDC_TOKENS.get(USDC_NETWORK, "")).lower()
USDC_XPUB = env("NTD_USDC_XPUB", default="")
USDC_ADDRESSES = [each.lower() for each in env.list("NTD_USDC_ADDRESSES", default=[])]
USDC_CONFIRMATIONS = env.int("NTD_USDC_CONFIRMATIONS", default=12)
# USDC for one unit of CREDIT_CURRENCY.
USDC_RATE = env("NTD_USDC_RATE", default="1" if CREDIT_CURRENCY == "USD" or SIMULATED_CHAIN else "")

# Requests that pay for themselves (x402): off without a node, a facilitator and an address.
X402_FACILITATOR_URL = env("NTD_X402_FACILITATOR_URL", default="").rstrip("/")
X402_FACILITATOR_ADDRESS = env("NTD_X402_FACILITATOR_ADDRESS", default="").lower()
X402_PAY_TO = env("NTD_X402_PAY_TO", default="").lower()
# As the token's contract says it to wallets.
X402_TOKEN_NAME = env("NTD_X402_TOKEN_NAME", default="USDC" if USDC_NETWORK == "eip155:84532" else "USD Coin")


def _gateway_secrets(name: str) -> list[str]:
    """Several while one replaces another: the first signs, all are good."""
    given: str = env(f"NTD_GATEWAY_SECRET_{name.upper()}", default="")
    return given.replace(",", " ").split()


def _own_secret(purpose: str) -> str:
    """For both ends of something that stays in this house; the same as long as SECRET_KEY is."""
    made = hashlib.sha256(f"{purpose} {SECRET_KEY}".encode()).digest()
    return f"whsec_{base64.b64encode(made).decode()}"


GATEWAY_SECRETS = {
    "simulated": _gateway_secrets("simulated") or [_own_secret("simulated gateway")],
    "http": (HTTP_GATEWAY_SECRETS := _gateway_secrets("http")),
}
# Which addresses webhooks to customers may not go to, and the private networks that they may.
ADDRESS_REFUSED = egress.kind_refused
WEBHOOK_PRIVATE_NETWORKS = env("NTD_WEBHOOK_PRIVATE_NETWORKS", default="").replace(",", " ").split()
FEDERATION_ROLE = env("FEDERATION_ROLE", default="both")
COORDINATOR_URL = env("COORDINATOR_URL", default="")
RATE_LIMIT_PER_MINUTE = env.int("RATE_LIMIT_PER_MINUTE", default=600)
SANDBOX_SOCKET = env("NTD_SANDBOX_SOCKET", default=str(PLACE.run / "sandboxes.sock"))


def _network() -> str:
    """Empty when off; a text that is no policy stays as it is, for checks.py to refuse."""
    given: str = env("NTD_SANDBOX_NETWORK", default="off")
    with suppress(egress.BadPolicy):
        policy = egress.parse(given)
        return policy.as_text() if policy else ""
    return given


SANDBOX_NETWORK = _network()
# Private places where MCP servers may be, as host:port; public ones need no leave.
MCP_ALLOW = env.list("NTD_MCP_ALLOW", default=[])
SANDBOX_ENGINE = env("NTD_SANDBOX_ENGINE", default="auto") or "auto"
SANDBOX_GVISOR_SOFT_MEMORY = env.bool("NTD_SANDBOX_GVISOR_SOFT_MEMORY", default=False)
RUNSC_PATH = env("RUNSC_PATH", default="")
NODE_NAME = env("NTD_NODE_NAME", default="")
METRICS_TOKEN = env("METRICS_TOKEN", default="")

# --- Django -------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "ntd_site.apps.SiteConfig",
    "billing",
    "scaling",
    "sandboxes",
    "federation",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "django_htmx",
    "django_structlog",
    "csp",
]
MIDDLEWARE = [
    "ntd_site.middleware.RequestIdMiddleware",
    "ntd_site.metrics.MetricsMiddleware",
    "ntd_site.doors.ApiMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "ntd_site.middleware.PartialMiddleware",
    "ntd_site.middleware.AccountMiddleware",
    "ntd_site.middleware.PageErrorsMiddleware",
    "ntd_site.idempotency.IdempotencyMiddleware",
]
ROOT_URLCONF = "ntd_site.urls"
ASGI_APPLICATION = "ntd_site.asgi.application"
WSGI_APPLICATION = "ntd_site.asgi.wsgi"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "ntd_site.middleware.page_context",
            ],
            "builtins": ["django.templatetags.static", "ntd_site.formats"],
        },
    }
]
AUTH_USER_MODEL = "billing.User"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"
CSRF_FAILURE_VIEW = "ntd_site.errors.csrf_failure"
PASSWORD_RESET_TIMEOUT = 24 * 3600
# The largest body of the API: 32 MB of an execution's files in base64, its input and its code.
DATA_UPLOAD_MAX_MEMORY_SIZE = env.int("NTD_MAX_BODY_BYTES", default=56 * 1024 * 1024)
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
EMAIL_CONFIG = env.email_url("EMAIL_URL", default="consolemail://")
vars().update(EMAIL_CONFIG)
DEFAULT_FROM_EMAIL = env("DEFAULT_FROM_EMAIL", default="ntd <noreply@localhost>")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"

# --- database, cache, live ------------------------------------------------------------------------
# Another engine stops the start with a sentence (checks.py), for which Django must come up first.
_postgresql = DATABASE_URL.startswith(("postgres://", "postgresql://"))
DATABASES = {"default": environ.Env.db_url_config(DATABASE_URL if _postgresql else PLACE.database_url)}
DATABASES["default"]["HOST"] = unquote(DATABASES["default"].get("HOST") or "")
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
# Only cursors that ask for it prepare their statements (billing/calls.py); Django's own never do.
DATABASES["default"].setdefault("OPTIONS", {})["prepare_threshold"] = 1
# Long-running processes with threads (web, worker) ask for a pool; one-off commands do better without.
if env.bool("NTD_DB_POOL", default=False):
    DATABASES["default"]["OPTIONS"]["pool"] = {
        "min_size": 1,
        "max_size": env.int("NTD_DB_POOL_SIZE", default=16),
        "timeout": 10,
        # A connection costs the database several megabytes. The pool lets one of its idle ones go this often.
        "max_idle": 10,
    }
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}}
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
CHANNEL_LAYERS = {"default": {"BACKEND": "ntd_site.layers.LiveLayer", "CONFIG": {"url": REDIS_URL}}}

# --- background tasks -------------------------------------------------------------------------------
CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = {"sandboxes.tasks.run_*": {"queue": "executions"}}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A network cut leaves kombu deaf for minutes without the watchdog; visibility only matters for lost
# messages, since a status column, not the broker, says what is still to be done.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": not REDIS_URL.startswith("unix"),
    "health_check_interval": 10,
    "unacked_restore_interval": 60,
    "unacked_restore_throttle": 1,
    "visibility_timeout": 7200,
}
CELERY_BEAT_SCHEDULE = schedules.merged()
CELERY_BEAT_SCHEDULE_FILENAME = str(NTD_HOME / "beat-schedule")

# --- API ----------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["ntd_site.api.BearerAuthentication", "ntd_site.api.SessionAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["ntd_site.api.ScopePermission"],
    "DEFAULT_PARSER_CLASSES": ["ntd_site.bodies.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["ntd_site.api.JSONRenderer"],
    "DEFAULT_PAGINATION_CLASS": "ntd_site.api.NewestFirst",
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "ntd_site.api.AlwaysJSON",
    "DEFAULT_METADATA_CLASS": None,
    # The gate comes last: only a request that will run may take an Idempotency-Key.
    "DEFAULT_THROTTLE_CLASSES": ["ntd_site.rates.PerMinuteThrottle", "ntd_site.idempotency.Gate"],
    "DEFAULT_SCHEMA_CLASS": "ntd_site.schema.AutoSchema",
    "EXCEPTION_HANDLER": "ntd_site.problems.problem_response",
    "PAGE_SIZE": 50,
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "ntd API",
    "DESCRIPTION": "Sandboxes, federations, billing and scaling. Errors are application/problem+json. A served call "
    "with an API key costs what `GET /api/v1/prices` says of `api_call`, or nothing where its description says so.",
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    # Enums stay where they are used: every area has its own `state`, and made-up names for them help nobody.
    "POSTPROCESSING_HOOKS": ["ntd_site.schema.describe_errors"],
}

# --- static files, security -----------------------------------------------------------------------------
STATIC_URL = "/static/"
STATICFILES_DIRS = [ROOT / "static"]
STATIC_ROOT = NTD_HOME / "static"
# `up` collects the files; a command or test that runs without them serves them straight from the tree.
HASHED_STATIC = not DEBUG and (STATIC_ROOT / "staticfiles.json").exists()
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if HASHED_STATIC
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = not HASHED_STATIC
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SECURE_REFERRER_POLICY = "same-origin"
HTTPS = env.bool("NTD_HTTPS", default=NTD_ENV == "production")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
NTD_BEHIND_PROXY = env.bool("NTD_BEHIND_PROXY", default=False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if NTD_BEHIND_PROXY else None
SECURE_REDIRECT_EXEMPT = [r"^health$", r"^metrics$"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS

# --- logs ---------------------------------------------------------------------------------------------------
LOG_JSON = env.bool("NTD_LOG_JSON", default=NTD_ENV == "production")
_shared = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
# Tracebacks without local variables: those hold keys, tokens and customers' code.
_tracebacks = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
_render = [_tracebacks, structlog.processors.JSONRenderer()]
if not LOG_JSON:
    _plain = structlog.dev.plain_traceback
    _render = [structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, exception_formatter=_plain)]
structlog.configure(
    processors=[structlog.stdlib.filter_by_level, *_shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "structured": {
            "()": structlog.stdlib.ProcessorFormatter,
            "foreign_pre_chain": _shared,
            "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_render],
        }
    },
    "filters": {
        # Asked many times a minute by machines; what it says is in its answer.
        "no_health": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: "/health" not in str(record.args or record.msg),
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "structured", "filters": ["no_health"]}},
    "root": {"handlers": ["console"], "level": env("NTD_LOG_LEVEL", default="INFO")},
    "loggers": {
        # django_structlog writes one line a request; its start line and the servers' own would say it again.
        "django_structlog": {"level": "WARNING"},
        # A sweep that waited too long is dropped on purpose; the next one does its work.
        "django_structlog.celery": {"level": "ERROR"},
        "django.server": {"level": "WARNING"},
        "uvicorn.access": {"level": "WARNING"},
        # One line for every call of E2B; what goes wrong is said where it matters.
        "httpx": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
    },
}
DJANGO_STRUCTLOG_CELERY_ENABLED = True
