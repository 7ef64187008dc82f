"""The tf.train.Example message built with google.protobuf, and small shards to read."""

from functools import cache

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from soilkit.export.published import Sample, schema

TYPE = descriptor_pb2.FieldDescriptorProto
LISTS = {
    "BytesList": (TYPE.TYPE_BYTES, False),
    "FloatList": (TYPE.TYPE_FLOAT, True),
    "Int64List": (TYPE.TYPE_INT64, True),
}


def _field(message, name, number, kind, *, of="", repeated=False, packed=None):
    label = TYPE.LABEL_REPEATED if repeated else TYPE.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, type=kind, label=label)
    if of:
        field.type_name = f".tensorflow.{of}"
    if packed is not None:
        field.options.packed = packed
    return field


@cache
def example_class(*, packed=True):
    """The Example of TensorFlow's example.proto and feature.proto; its lists packed or not."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"example_{packed}.proto", package="tensorflow", syntax="proto3"
    )
    for name, (kind, can_pack) in LISTS.items():
        message = file.message_type.add(name=name)
        _field(message, "value", 1, kind, repeated=True, packed=packed if can_pack else None)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(LISTS, start=1):
        short = name.removesuffix("List").lower() + "_list"
        _field(feature, short, number, TYPE.TYPE_MESSAGE, of=name).oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    _field(entry, "key", 1, TYPE.TYPE_STRING)
    _field(entry, "value", 2, TYPE.TYPE_MESSAGE, of="Feature")
    _field(features, "feature", 1, TYPE.TYPE_MESSAGE, of="Features.FeatureEntry", repeated=True)
    example = file.message_type.add(name="Example")
    _field(example, "features", 1, TYPE.TYPE_MESSAGE, of="Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


def textured(rng):
    """An image that is smooth with noise on it, 0-255, (512, 512) uint8."""
    blocks = np.kron(rng.normal(size=(32, 32)), np.ones((16, 16)))  # (row, col)
    noisy = 120 + 30 * blocks + 12 * rng.normal(size=(512, 512))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def sample(seed=0, *, images=schema.MODEL_IMAGES, **scalars):
    """A sample with textured images and the scalars that every one has; others by keyword."""
    rng = np.random.default_rng(seed)
    made = {name: textured(rng) for name in images}
    if "nasa_dem_elevation" in made:
        made["nasa_dem_elevation"] = made["nasa_dem_elevation"].astype(np.int16) * 9 - 400
    known = {
        "sensor_id": "TxSON__CR200-1__CS655",
        "timestamp": float(np.float32(1_590_000_000_000)),
        "center_lat": 30.25,
        "center_long": -98.75,
    }
    return Sample(known | scalars, made)
