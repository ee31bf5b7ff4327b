#!/usr/bin/env bash
# The methods whose published setting for Waterbirds is known, at that setting (ResNet-50, 224x224).
# One H100 at 3,000 images/s takes about 70 minutes per seed.
#
#   WATERBIRDS_ROOT=data/waterbird_complete95_forest2water2 recipes/waterbirds.sh
#   SEEDS="0" METHODS="erm dfr" recipes/waterbirds.sh      PYTHON, LOGS and OUT name other places
#
# The last table says for each method whether it lies within two published standard deviations.
# Published averages are often weighted by the group sizes of train; compare worst groups only.
# A stopped recipe goes on with the same command; finished runs are not repeated.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python} LOGS=${LOGS:-logs/waterbirds} OUT=${OUT:-outputs/waterbirds}
ROOT=${WATERBIRDS_ROOT:-data/waterbird_complete95_forest2water2}
SEEDS=${SEEDS:-0 1 2}
METHODS=${METHODS:-erm dfr group_dro rwg afr self lisa cnc eiil group_weights balanced_softmax focal ldam
    irm mixup cvar_dro crt}

settings() {
    local lr=$1 wd=$2 batch=$3 epochs=$4
    shift 4
    echo "exp.optimizer.lr=$lr" "exp.optimizer.weight_decay=$wd" "exp.dataloader.batch_size=$batch" \
        "exp.train.total_epochs=$epochs" "$@"
}
published() {
    case $1 in
    erm | dfr) settings 0.001 0.001 32 100 exp.dataset.data_augmentation=true ;;  # Kirichenko et al.
    group_dro) settings 0.00001 1.0 128 300 ;;                  # Sagawa et al. 2020
    rwg) settings 0.00001 1.0 128 50 ;;
    eiil) settings 0.00001 1.0 128 300 ;;
    afr)                                                        # Qiu et al. 2023
        settings 0.003 0.0001 32 50 exp.optimizer.schedule=null exp.afr.lr=0.01 exp.afr.steps=500 \
            exp.afr.gamma_min=4 exp.afr.gamma_max=20 exp.afr.num_gammas=33 \
            exp.afr.strengths=[0,0.1,0.2,0.3]
        ;;
    self) settings 0.003 0.0001 32 100 ;;                       # LaBonte et al. 2023
    lisa) settings 0.001 0.0001 64 300 exp.lisa.mix=mixup ;;    # Yao et al. 2022
    cnc)                                                        # Zhang et al. 2022
        settings 0.0001 0.001 128 5 exp.cnc.temperature=0.1 exp.cnc.rows=17 exp.cnc.anchor_share=1
        ;;
    *) settings 0.001 0.0001 108 112 ;;                         # Yang et al. 2023: 5,001 steps
    esac
}

for seed in $SEEDS; do
    for method in $METHODS; do
        read -ra own <<<"$(published "$method")"
        "$PYTHON" train.py "exp=$method" exp/dataset=waterbirds "exp.dataset.root='$ROOT'" "${own[@]}" \
            "exp.seed=$seed" "exp.train.log_dir='$LOGS/$method/seed$seed'"
    done
done
"$PYTHON" -m scripts.report_results --log_dirs "$LOGS"/*/seed* --split test --out_dir "$OUT"
