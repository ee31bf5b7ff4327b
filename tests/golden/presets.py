"""The presets whose first steps are recorded: a small network on a few drawn faces, on a CPU."""

THREE = "exp.dataset.groupings=[Blond_Hair:Male,High_Cheekbones:Smiling,Wearing_Lipstick:Male]"
SMALL = [
    "exp/dataset=synthetic",
    "exp.dataset.synthetic.num_train=272",  # 17 steps an epoch, so that 20 steps cross its end
    "exp.dataset.synthetic.num_val=48",
    "exp.dataset.synthetic.num_test=16",
    "exp.dataset.target_resolution=[32,32]",
    "exp.model.pretrained=false",
    "exp.optimizer.lr=0.01",
    "exp.dataloader.batch_size=16",
    "exp.dataloader.num_workers=1",
    "exp.train.max_steps=20",
    "exp.train.device=cpu",
    "exp.train.precision=fp32",
    "exp.train.log_every_n_steps=1",
    "exp.train.tensorboard=false",
]
PRESETS = {
    "erm": ["exp=erm"],
    "rwy": ["exp=rwy"],
    "rwg": ["exp=rwg"],
    "suby": ["exp=suby"],
    "subg": ["exp=subg"],
    "jtt": ["exp=jtt", "exp.lambda_up=5"],
    "cosine": ["exp=erm", "exp.optimizer.schedule=cosine", "exp.total_epochs=2"],
    "augmentation": ["exp=erm", "exp.dataset.data_augmentation=true"],
    "rwg_three_tasks": ["exp=rwg", THREE],
    "suby_three_tasks": ["exp=suby", THREE],
    "static_weights": ["exp=erm", THREE, "exp.dataset.task_weights=[0.25,0.5,0.25]"],
    "lbtw": ["exp=erm", THREE, "exp.dataset.loss_balanced_task_weighting=true"],
    # Random ResNets amplify rounding: after three steps two CPUs differ by more than 1e-4.
    "resnet18": [
        "exp=erm",
        "exp/model=resnet18",
        "exp.optimizer.lr=0.0001",
        "exp.train.max_steps=3",
    ],
}
