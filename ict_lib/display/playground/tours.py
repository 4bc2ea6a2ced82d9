"""Five short experiments of the playground: a prediction first, one click to set up, what to look for, and why."""

TOURS = [
    {
        "key": "constants",
        "title": "How much of CT's collapse is its constants?",
        "runs": ["CT", "CT-tuned"],
        "predict": "The same method with s1 = 40 instead of 150, mu0 = 0.1 instead of 0.9 and a learning rate "
        "of 0.005 instead of 0.002. Does it find the eight modes?",
        "look": "The samples in one step: a blur in the middle, or a ring? Then the distances: is either near "
        "the floor?",
        "why": "CT's constants were made for trainings of 800,000 steps. Its teacher lags by hundreds of "
        "steps, which is little there and much here. Tuned for a short training it no longer "
        "collapses: it finds the ring, hardly the modes. What still lies between tuned CT and iCT these "
        "three constants do not explain.",
    },
    {
        "key": "teacher",
        "title": "Take the teacher's average back",
        "runs": ["without-teacher", "iCT"],
        "predict": "iCT lets the student teach. Give it CT's slow moving average for a teacher again. Do the "
        "samples get better, worse, or neither?",
        "look": "The distance of one-step samples while N grows, and the net: does it still fold onto the modes?",
        "why": "A teacher that lags behind holds the student back, and the more levels there are, the more "
        "tightly. Section 3.2 removes the average. Two steps hide much of the damage: the second step "
        "starts near the data.",
    },
    {
        "key": "embedding",
        "title": "Fourier features of scale 16",
        "runs": ["without-fourier_scale", "iCT"],
        "predict": "A noise embedding of scale 16 lets every small change of σ change all features. Which "
        "samples suffer more: those of one step or those of two?",
        "look": "Move the noise slider when the runs are done: how does each net change from level to level?",
        "why": "Neighbouring levels should give nearly the same answer. With scale 16 the network sees "
        "neighbours as unrelated: what is learned at one level hardly helps the next, and errors add "
        "up from low noise to high. One step from the highest level pays for all of them.",
    },
    {
        "key": "loss",
        "title": "Loss and samples",
        "runs": ["CT", "iCT"],
        "predict": "Which of the two ends with the lower loss, and which with the better samples?",
        "look": "The panel of the loss beside that of the distance.",
        "why": "The two losses weigh and measure differently, so they cannot be compared. And a model that "
        "sends everything to one place agrees with its teacher perfectly. A low loss means agreement, "
        "not truth: judge samples against the data, with the floor in sight.",
    },
    {
        "key": "noise",
        "title": "Draw low noise more often",
        "runs": ["without-noise_schedule", "iCT"],
        "predict": "Lognormal noise draws low levels more often. Does it make samples better in one step, in "
        "two, or both?",
        "look": "The panel of which noise is drawn, then the two distances of each run at the end.",
        "why": "Effort moves from high noise to low. Two-step samples end at a low level and gain. One-step "
        "samples start from the highest level, which is now drawn seldom. Not everything that helps on "
        "images helps in so small a training.",
    },
]
