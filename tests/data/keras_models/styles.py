"""Keras models in every style people write them."""
import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import Input, Model, Sequential, layers
from tensorflow.keras.layers import (
    Activation, Add, BatchNormalization, Concatenate, Conv2D, Dense, Dropout, Flatten, GlobalAveragePooling2D, MaxPooling2D,
)
from tensorflow.keras.models import Model as KModel


def build_sequential_list():
    return keras.Sequential([
        keras.Input(shape=(8, 8, 3)),
        layers.Conv2D(4, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ])


def build_sequential_add():
    model = Sequential()
    model.add(Conv2D(4, (3, 3), input_shape=(8, 8, 1), use_bias=False))
    model.add(BatchNormalization(axis=-1))
    model.add(Activation("relu"))
    model.add(Flatten())
    model.add(Dense(units=2))
    model.compile(optimizer="adam", loss="mse")
    return model


def build_functional():
    inputs = Input((8, 8, 3))
    x = Conv2D(4, 3, padding="same")(inputs)
    x = BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = GlobalAveragePooling2D()(x)
    return Model(inputs=inputs, outputs=Dense(3)(x))


def build_residual_add():
    inputs = tf.keras.Input(shape=(8, 8, 4))
    shortcut = inputs
    x = tf.keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    x = tf.keras.layers.BatchNormalization()(x)
    x = tf.keras.layers.Conv2D(4, 1)(x)
    x = tf.keras.layers.Add()([shortcut, x])
    outputs = tf.keras.layers.Dense(1)(tf.keras.layers.Flatten()(x))
    return tf.keras.Model(inputs, outputs)


def build_residual_operator():
    inputs = Input((6,))
    x = Dense(6)(inputs)
    x = BatchNormalization()(x)
    x = x + inputs
    return Model(inputs, Dense(2)(x * 0.5))


def build_concatenate_branches():
    inputs = Input((8, 8, 3))
    a = Conv2D(2, 1)(inputs)
    b = BatchNormalization()(Conv2D(3, 1, use_bias=False)(inputs))
    c = MaxPooling2D(1)(inputs)
    x = Concatenate()([a, b, c])
    return KModel(inputs, Dense(1)(Flatten()(x)))


def conv_block(x, filters, kernel=3, bn=True):
    x = Conv2D(filters, kernel, padding="same", use_bias=not bn)(x)
    if bn:
        x = BatchNormalization()(x)
    return Activation("relu")(x)


def build_helper_loops():
    inputs = Input((8, 8, 1))
    x = inputs
    for i, filters in enumerate([2, 4, 8]):
        x = conv_block(x, filters, bn=i > 0)
        if i < 2:
            x = MaxPooling2D()(x)
    return Model(inputs, Dense(2)(Flatten()(x)))


def build_unet():
    inputs = Input((8, 8, 1))
    skips, x = [], inputs
    for f in (2, 4):
        x = conv_block(x, f)
        skips.append(x)
        x = MaxPooling2D(2)(x)
    x = conv_block(x, 8)
    for f, skip in zip((4, 2), reversed(skips)):
        x = layers.Conv2DTranspose(f, 2, strides=2)(x)
        x = layers.concatenate([x, skip])
        x = conv_block(x, f)
    return Model(inputs, Conv2D(1, 1, activation="sigmoid")(x))


def build_sequential_loop():
    model = Sequential([Input((4,))])
    for width in (8, 4):
        model.add(Dense(width))
        model.add(BatchNormalization(momentum=0.9, epsilon=1e-3))
        model.add(Dropout(0.1))
    model.add(Dense(1))
    return model


def build_nested():
    encoder = Sequential([Input((8,)), Dense(4), BatchNormalization()], name="encoder")
    head = Sequential([Input((4,)), Dense(2)], name="head")
    inputs = Input((8,))
    return Model(inputs, head(encoder(inputs)))


def build_shared_layer():
    a, b = Input((3,)), Input((3,))
    shared = Dense(2)
    norm = BatchNormalization()
    return Model([a, b], Dense(1)(Concatenate()([norm(shared(a)), norm(shared(b))])))


def build_flags():
    inputs = Input((4,))
    x = BatchNormalization(center=False)(inputs)
    x = BatchNormalization(scale=False)(x)
    x = BatchNormalization(center=False, scale=False)(x)
    x = layers.LayerNormalization()(x)
    return Model(inputs, Dense(1, use_bias=False)(x))


def build_frozen_layer():
    inputs = Input((4,))
    dense = Dense(3)
    dense.trainable = False
    norm = BatchNormalization(trainable=False)
    return Model(inputs, Dense(1)(norm(dense(inputs))))


def build_popped():
    model = Sequential([Input((4,)), Dense(3), BatchNormalization(), Dense(9)])
    model.pop()
    model.add(Dense(2))
    return model


def build_output_of_layer():
    base = Sequential([Input((4,)), Dense(3, name="inner"), BatchNormalization(name="norm"), Dense(9)])
    return Model(base.input, Dense(2)(base.get_layer("norm").output))


def build_separable_and_recurrent():
    inputs = Input((5, 6))
    x = layers.LSTM(4, return_sequences=True)(inputs)
    x = layers.Bidirectional(layers.GRU(3))(x)
    x = BatchNormalization()(x)
    y = layers.SeparableConv1D(2, 3)(inputs)
    y = layers.GlobalMaxPooling1D()(y)
    return Model(inputs, Dense(1)(layers.concatenate([x, y])))


def build_embedding():
    model = Sequential()
    model.add(Input((7,)))
    model.add(layers.Embedding(20, 5))
    model.add(layers.Conv1D(4, 3))
    model.add(BatchNormalization())
    model.add(layers.GlobalAveragePooling1D())
    model.add(Dense(1, activation="sigmoid"))
    return model


def residual_stack(inputs, specs):
    x = inputs
    for filters, stride in specs:
        y = Conv2D(filters, 3, strides=stride, padding="same")(x)
        y = BatchNormalization()(y)
        if stride != 1 or x.shape[-1] != filters:
            x = Conv2D(filters, 1, strides=stride)(x)
            x = BatchNormalization()(x)
        x = Add()([x, y])
    return x


def build_resnet():
    inputs = Input(shape=(8, 8, 4))
    x = residual_stack(inputs, [(4, 1), (8, 2)])
    return Model(inputs, Dense(3)(GlobalAveragePooling2D()(x)))


def create_model(input_shape, num_classes, name="model"):
    def build():
        return keras.models.Sequential([
            keras.Input(shape=input_shape),
            keras.layers.Dense(8, kernel_regularizer=keras.regularizers.l2(0.01)),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(num_classes),
        ], name=name)

    return build


def build_from_factory():
    return create_model((5,), 3)()


def build_depthwise():
    inputs = Input((8, 8, 4))
    x = layers.DepthwiseConv2D(3, use_bias=False)(inputs)
    x = BatchNormalization()(x)
    x = layers.SeparableConv2D(6, 3)(x)
    x = layers.PReLU(shared_axes=[1, 2])(x)
    return Model(inputs, Dense(1)(Flatten()(x)))


def build_two_outputs():
    inputs = Input((4,))
    x = BatchNormalization()(Dense(4)(inputs))
    return Model(inputs, [Dense(1, name="a")(x), Dense(2, name="b")(x)])


class MLP(keras.Model):
    def __init__(self, width, classes):
        super().__init__()
        self.hidden = layers.Dense(width)
        self.norm = layers.BatchNormalization()
        self.head = layers.Dense(classes)

    def call(self, x, training=False):
        return self.head(self.norm(self.hidden(x), training=training))


def build_subclassed():
    model = MLP(4, 2)
    model.build((None, 3))
    return model


class Block(layers.Layer):
    def __init__(self, filters, **kwargs):
        super(Block, self).__init__(**kwargs)
        self.conv = layers.Conv2D(filters, 3, padding="same")
        self.bn = layers.BatchNormalization()

    def call(self, x):
        return self.bn(self.conv(x))


def build_subclassed_layers():
    return Sequential([Input((8, 8, 2)), Block(4), Block(3), Flatten(), Dense(1)])


class TwoNorms(layers.Layer):
    def __init__(self, width):
        super().__init__()
        self.first = layers.Dense(width)
        self.norm = layers.BatchNormalization()
        self.second = Sequential([layers.Dense(width), layers.BatchNormalization()])
        self.last = layers.Dense(1)

    def call(self, x):
        return self.last(self.second(self.norm(self.first(x))))


def build_layer_with_two_norms():
    inputs = Input((3,))
    return Model(inputs, Dense(2)(TwoNorms(4)(inputs)))


class Listed(keras.Model):
    def __init__(self, widths):
        super().__init__()
        self.blocks = [layers.Dense(w) for w in widths]
        self.norms = []
        for _ in widths:
            self.norms.append(layers.BatchNormalization())
        self.head = Dense(1)

    def call(self, x):
        for dense, norm in zip(self.blocks, self.norms):
            x = norm(dense(x))
        return self.head(x)


def build_layers_in_lists():
    model = Listed([4, 3])
    model.build((None, 5))
    return model


def build_application_and_head():
    base = keras.applications.MobileNetV2(input_shape=(32, 32, 3), include_top=False, weights=None)
    base.trainable = False
    x = GlobalAveragePooling2D()(base.output)
    return Model(base.input, Dense(2)(x))


def build_application_inside():
    base = tf.keras.applications.ResNet50(include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg")
    return Sequential([base, Dense(4), BatchNormalization(), Dense(2)])
