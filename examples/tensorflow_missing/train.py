"""A Keras classifier between two parties. The backend is SecretFlow's default, TensorFlow."""

import secretflow as sf
from secretflow.security.aggregation import SecureAggregator
from secretflow_fl.ml.nn import FLModel


def create_conv_model(input_shape, num_classes, name="model"):
    def create_model():
        from tensorflow import keras
        from tensorflow.keras import layers

        model = keras.Sequential(
            [
                keras.Input(shape=input_shape),
                layers.Conv2D(32, kernel_size=(3, 3), use_bias=False),
                layers.BatchNormalization(),
                layers.Activation("relu"),
                layers.MaxPooling2D(pool_size=(2, 2)),
                layers.Flatten(),
                layers.Dropout(0.5),
                layers.Dense(num_classes, activation="softmax"),
            ],
            name=name,
        )
        model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
        return model

    return create_model


sf.init(["alice", "bob", "charlie"], address="local")
alice, bob, charlie = sf.PYU("alice"), sf.PYU("bob"), sf.PYU("charlie")

fed_model = FLModel(
    server=charlie,
    device_list=[alice, bob],
    model=create_conv_model(input_shape=(28, 28, 1), num_classes=10),
    aggregator=SecureAggregator(charlie, [alice, bob]),
    strategy="fed_avg_w",
)
