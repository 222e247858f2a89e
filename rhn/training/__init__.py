"""Training, evaluation and sampling of models, on chorales and on texts.

For a configuration and its data, make a task and a trainer:

    from rhn.training.chorales import ChoraleTask
    from rhn.training.trainer import Trainer

    task = ChoraleTask(config, corpus)
    trainer = Trainer(task, {0: task.model(0)})
    while trainer.live():
        trainer.run_epoch()
    model = trainer.best_model(0)
"""
