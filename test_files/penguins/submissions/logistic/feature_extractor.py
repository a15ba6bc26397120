"""Scaled measures, zero (the mean) where one is missing; sex as -1, 0, 1; island flags."""

import numpy as np
import pandas as pd

MEASURES = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
SEXES = {"female": -1.0, "male": 1.0}


class FeatureExtractor:
    def fit(self, X_df: pd.DataFrame, y: np.ndarray) -> None:
        self.means = X_df[MEASURES].mean()
        self.spreads = X_df[MEASURES].std()
        self.islands = sorted(X_df["island"].dropna().unique())

    def transform(self, X_df: pd.DataFrame) -> np.ndarray:
        scaled = ((X_df[MEASURES] - self.means) / self.spreads).fillna(0.0).to_numpy()
        sexes = np.array([SEXES.get(sex, 0.0) for sex in X_df["sex"]])
        islands = np.array(
            [[island == known for known in self.islands] for island in X_df["island"]]
        )
        return np.column_stack([scaled, sexes, islands.astype(float)])
