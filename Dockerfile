# docker build -t callgate .
# docker run --network host -v ./config:/etc/callgate:ro -v callgate-state:/var/lib/callgate callgate
#
# Host network: SIP carries addresses inside its messages, and a bridge would hide the ones that keys are known by.
# In a config of your own mounted there set `state_dir: /var/lib/callgate` and
# `database: sqlite:////var/lib/callgate/callgate.db`.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
# For the optional C scanner; without a compiler the program works the same, slower. Whatever version the base has is
# right, and a pinned one would be gone from Debian's mirror with its next update.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
COPY pyproject.toml setup.py README.md LICENSE ./
COPY src ./src
RUN python -m venv /opt/callgate && /opt/callgate/bin/pip install --no-cache-dir ".[fast,postgresql]"

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 999 --user-group --home-dir /var/lib/callgate --create-home --shell /usr/sbin/nologin callgate
COPY --from=build /opt/callgate /opt/callgate
COPY config/callgate.yaml /etc/callgate/callgate.yaml
RUN sed -i 's#"./state"#"/var/lib/callgate"#; s#sqlite:///#sqlite:////var/lib/callgate/#' /etc/callgate/callgate.yaml
ENV PATH=/opt/callgate/bin:$PATH PYTHONUNBUFFERED=1
# By number: `runAsNonRoot` of Kubernetes knows no names.
USER 999:999
WORKDIR /var/lib/callgate
VOLUME /var/lib/callgate
EXPOSE 5060/udp 5060/tcp
# The ops process listens on loopback inside the container.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", \
    "import urllib.request as r; r.urlopen('http://127.0.0.1:9060/healthz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["callgate"]
CMD ["run", "-c", "/etc/callgate/callgate.yaml"]
