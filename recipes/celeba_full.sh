#!/usr/bin/env bash
# Every method at its published setting on all of CelebA (ResNet-50, 224x224, Blond_Hair:Male): the
# presets of configs/exp as they stand. One H100 at 3,000 images/s takes 27 hours per seed; without
# lff (6 hours), cnc (5), rwy and jtt (2.5 each) it takes 11.
#
#   CELEBA_ROOT=data/celeba recipes/celeba_full.sh     PYTHON, LOGS and OUT name other places
#   SEEDS="0" METHODS="erm dfr" recipes/celeba_full.sh
#
# The last table says for each method whether it lies within two published standard deviations.
# A stopped recipe goes on with the same command; finished runs are not repeated.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python} LOGS=${LOGS:-logs/celeba_full} OUT=${OUT:-outputs/celeba_full}
CELEBA_ROOT=${CELEBA_ROOT:-data/celeba}
SEEDS=${SEEDS:-0 1 2}
METHODS=${METHODS:-erm dfr group_dro rwg subg suby group_weights class_weights balanced_softmax
    logit_adjustment vs focal ldam cvar_dro chi2_dro irm vrex mixup lisa pde afr self crt dpe eiil xrm
    ssa rwy jtt cnc lff}

for seed in $SEEDS; do
    for method in $METHODS; do
        own=()
        [ "$method" != lff ] || own=(exp/model=resnet18)  # the published network
        "$PYTHON" train.py "exp=$method" "exp.dataset.root='$CELEBA_ROOT'" "${own[@]}" \
            "exp.seed=$seed" "exp.train.log_dir='$LOGS/$method/seed$seed'"
    done
done
"$PYTHON" -m scripts.report_results --log_dirs "$LOGS"/*/seed* --split test --out_dir "$OUT"
