"""The fields of a RayJob (ray.io/v1, KubeRay 1.5) and of the pods in it (Kubernetes core/v1), with their types, as a JSON schema.

Of what Kubernetes knows of a pod, only what the documented file may need is listed: anything else is refused, as a misspelt field is.
"""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
YES_OR_NO: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SIZE: Schema = {"type": "number", "minimum": 0}
WORDS: Schema = {"type": "array", "items": TEXT}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}  # values that are no strings, such as bare numbers, are refused
QUANTITY: Schema = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"}
QUANTITIES: Schema = {"type": "object", "additionalProperties": QUANTITY}
NAME: Schema = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
PORT_NAME: Schema = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$"}


def one_of(*values: str) -> Schema:
    """One of these words."""
    return {"enum": list(values)}


def fields(required: tuple[str, ...] = (), **types: Schema) -> Schema:
    """An object of these fields and no others."""
    return {"type": "object", "properties": types, "required": list(required), "additionalProperties": False}


def many(items: Schema) -> Schema:
    """A list of these, of at least one."""
    return {"type": "array", "items": items, "minItems": 1}


KEY = fields(("name", "key"), name=TEXT, key=TEXT, optional=YES_OR_NO)
ENV = fields(("name",), name=TEXT, value=TEXT, valueFrom=fields(secretKeyRef=KEY, configMapKeyRef=KEY))
RESOURCES = fields(requests=QUANTITIES, limits=QUANTITIES)
PORT = fields(("containerPort",), name=PORT_NAME, containerPort=COUNT, protocol=one_of("TCP", "UDP", "SCTP"))
MOUNT = fields(("name", "mountPath"), name=NAME, mountPath=TEXT, subPath=TEXT, readOnly=YES_OR_NO)
CONTAINER = fields(
    ("name", "image"),
    name=NAME,
    image=TEXT,
    imagePullPolicy=one_of("Always", "IfNotPresent", "Never"),
    command=WORDS,
    args=WORDS,
    env=many(ENV),
    ports=many(PORT),
    resources=RESOURCES,
    volumeMounts=many(MOUNT),
)
CLAIM = fields(("claimName",), claimName=NAME, readOnly=YES_OR_NO)
VOLUME = fields(("name",), name=NAME, persistentVolumeClaim=CLAIM, emptyDir=fields(medium=one_of("", "Memory"), sizeLimit=QUANTITY))
TOLERATION = fields(key=TEXT, operator=one_of("Exists", "Equal"), value=TEXT, effect=one_of("NoSchedule", "PreferNoSchedule", "NoExecute"))
POD = fields(
    ("containers",),
    containers=many(CONTAINER),
    initContainers=many(CONTAINER),
    volumes=many(VOLUME),
    tolerations=many(TOLERATION),
    nodeSelector=TEXTS,
    serviceAccountName=NAME,
    imagePullSecrets=many(fields(("name",), name=NAME)),
    securityContext=fields(fsGroup=COUNT, runAsUser=COUNT, runAsGroup=COUNT, runAsNonRoot=YES_OR_NO),
    restartPolicy=one_of("Always", "OnFailure", "Never"),
    terminationGracePeriodSeconds=COUNT,
)
TEMPLATE = fields(("spec",), metadata=fields(labels=TEXTS, annotations=TEXTS), spec=POD)
GROUP: dict[str, Schema] = {"template": TEMPLATE, "rayStartParams": TEXTS, "resources": TEXTS, "labels": TEXTS}
HEAD = fields(
    ("template",),
    **GROUP,
    serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer"),
    enableIngress=YES_OR_NO,
    headService={"type": "object"},
)
WORKERS = fields(
    ("groupName", "template"),
    **GROUP,
    groupName=NAME,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    numOfHosts=COUNT,
    idleTimeoutSeconds=COUNT,
    suspend=YES_OR_NO,
    scaleStrategy=fields(workersToDelete=WORDS),
)
AUTOSCALER = fields(
    idleTimeoutSeconds=COUNT,
    upscalingMode=one_of("Default", "Aggressive", "Conservative"),
    version=one_of("v1", "v2"),
    image=TEXT,
    imagePullPolicy=one_of("Always", "IfNotPresent", "Never"),
    resources=RESOURCES,
    env=many(ENV),
    volumeMounts=many(MOUNT),
)
CLUSTER = fields(
    ("headGroupSpec",),
    rayVersion=TEXT,
    enableInTreeAutoscaling=YES_OR_NO,
    autoscalerOptions=AUTOSCALER,
    authOptions=fields(mode=one_of("disabled", "token")),
    headServiceAnnotations=TEXTS,
    headGroupSpec=HEAD,
    workerGroupSpecs=many(WORKERS),
    suspend=YES_OR_NO,
    managedBy=TEXT,
)
JOB = fields(
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    submitterConfig=fields(backoffLimit=COUNT),
    submitterPodTemplate=TEMPLATE,
    shutdownAfterJobFinishes=YES_OR_NO,
    ttlSecondsAfterFinished=COUNT,
    activeDeadlineSeconds=COUNT,
    backoffLimit=COUNT,
    jobId=TEXT,
    metadata=TEXTS,
    clusterSelector=TEXTS,
    entrypointNumCpus=SIZE,
    entrypointNumGpus=SIZE,
    entrypointResources=TEXT,
    suspend=YES_OR_NO,
    managedBy=TEXT,
    rayClusterSpec=CLUSTER,
)
RAY_JOB = fields(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion=one_of("ray.io/v1"),
    kind=one_of("RayJob"),
    metadata=fields(("name",), name=NAME, namespace=NAME, labels=TEXTS, annotations=TEXTS),
    spec=JOB,
)
