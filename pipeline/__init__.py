"""Train and evaluate a keyword classifier on short recordings.

The map of the code. Each floor imports only from the floors below it.

    __main__.py    the command line: python -m pipeline COMMAND
    commands/      the commands: check, store, predict, summary, experiments, compare, crossval, cache
    stages/        one short file per stage of dvc.yaml: read parameters, call the code below, write outputs

    learning/      train and score: settings, batches, noise, augmentation, preparation, network, teacher,
                   fit, checkpoints, resumption, trainee, replicas, saving, evaluation, runtime, timings
    serving/       use a trained model: predictor, windows, export, formats, micro, description, speed
    report/        pages, pictures and sounds: page, examples, resynthesis, sounds, figures, clip_figures,
                   score_figures, results, html, templates/

    corpus/        recordings → clips: download, archive, containers, paths, tables, demo, headers, stream,
                   audio, recordings, clips, task, splits, members
    store/         one HDF5 file per array: layout, writer, capacity, reader, previous, current
    features/      one file per feature: waveforms → (clips, frames, bins)
    models/        one file per model: (frames, bins) → logits

    params.py      params.yaml, read into types and checked
    parallel.py    work spread over processes or machines
    files.py       files that are whole or absent
    records.py     tables and JSON whose content has declared types
    kerasfile.py   trained models, read from .keras files
    needs.py       whether disk and memory are large enough, before work starts
    progress.py    a progress bar on a terminal, lines in a log
    errors.py      errors that the user can correct
"""
