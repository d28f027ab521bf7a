"""
A network with subConvLSTM cells extrapolates a moving digit
============================================================

From frame 6 on, the network no longer sees the film and feeds on its own predictions (framed). It was trained for a
few seconds only. It moves the digit on for a frame or two, but the digit blurs and fades, because the squared error
favours the mean over the positions that the network cannot tell apart. Compare the errors below with those of an empty
frame.
"""

import matplotlib.pyplot as plt
import torch

from pcsim import models, plots, predict, stimuli
from pcsim.analysis import frames as scoring
from pcsim.training import Training
from pcsim.training.frames import Goal, train_to_predict

# %%
# A PredNet with two layers first learns to predict the next frame, and then to continue without input. The bias keeps
# its rectified prediction from starting at zero, where it would have no gradient.

torch.manual_seed(0)
digits = stimuli.MovingDigits(digits=1, size=16, side=7, speed=(1.0, 2.0))
clips = digits.draw(seed=0, first=0, count=1_000, length=10).frames
net = models.prednet((1, 8), representations=(16, 16), cell="subconvlstm", image=(1, 16, 16))
torch.nn.init.constant_(net.populations["p0"].rule.bias, 0.1)
for goal, updates in ((Goal(loss="squared"), 110), (Goal(loss="squared", closed_loop_from=6), 90)):
    settings = Training(updates=updates, batch=8, learning_rate=0.005)
    train_to_predict(net, lambda number: clips[number], len(clips), settings, goal)

# %%

tests = torch.from_numpy(digits.draw(seed=1, first=0, count=100, length=10).frames)
forecast = predict(net, tests, closed_loop_from=6)
scored = scoring.score(forecast.predictions, tests, closed_loop_from=6)
for ahead in range(1, 5):
    own, copy = scored.at(ahead), scored.at(ahead, "copy last frame")
    empty = (tests[:, 5 + ahead] / 255).square().mean()
    print(f"{ahead} ahead: squared error {own:.4f}, copy of the last frame {copy:.4f}, empty frame {empty:.4f}")

# %%

figure = plots.forecast(tests[0, 2:] / 255, {"prediction": forecast.predictions[0, 2:]}, closed_loop_from=4)
figure.set_size_inches(7.4, 3.2)
plt.show()
