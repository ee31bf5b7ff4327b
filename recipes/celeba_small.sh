#!/usr/bin/env bash
# All methods on 14,000 real images, at equal cost: ResNet-18 from scratch at 64x64, 345 steps of 64
# images, which are three epochs of ERM. About 9 minutes per run on one CPU core.
#
#   CELEBA_ROOT=data/celeba recipes/celeba_small.sh       PYTHON, LOGS and OUT name other places
#   IMAGENET names a file of the ImageNet weights of ResNet-50, to use instead of downloading
#   SEEDS="0 1 2" METHODS="erm rwg" recipes/celeba_small.sh
#
# A stopped recipe goes on with the same command; finished runs are not repeated.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHON=${PYTHON:-python} LOGS=${LOGS:-logs/celeba_small} OUT=${OUT:-outputs/celeba_small}
export CELEBA_ROOT=${CELEBA_ROOT:-data/celeba} CACHE=${CACHE:-data/cache}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
SEEDS=${SEEDS:-0 1 2} PARALLEL=${PARALLEL:-2}

methods=(
    rwg group_dro group_weights class_weights rwy subg suby jtt lisa mixup focal cvar_dro
    balanced_softmax logit_adjustment dfr crt afr dpe self pde lff eiil xrm cnc ssa chi2_dro ldam vs
    irm vrex rwg_strong
)

# What a method needs beyond the common settings. Schedules are those of the presets, scaled to 345
# steps. Methods with tiny epochs have more of them, and are validated as rarely as the others.
settings() {
    case $1 in
    erm_frozen)
        echo exp/model=resnet50 exp.model.pretrained=true exp.model.freeze=true exp.train.max_steps=1
        [ -z "${IMAGENET:-}" ] || echo "exp.model.weights='$IMAGENET'"
        ;;
    rwg_strong) echo exp=rwg exp.name=rwg_strong exp.optimizer.weight_decay=0.04 ;;
    dfr | dpe | crt) echo "exp=$1" "exp.stage_1.run='$LOGS/erm/seed$2'" ;;
    xrm) echo exp=xrm "exp.stage_1.run='$LOGS/erm_frozen/seed0'" ;;
    eiil) echo exp=eiil exp.stage_1.optimizer.lr=0.02 exp.stage_1.optimizer.weight_decay=0.001 ;;
    ssa)
        echo exp=ssa exp.stage_1.optimizer.lr=0.02 exp.stage_1.optimizer.weight_decay=0.001
        echo exp.ssa.steps=200 exp.ssa.interval=50
        ;;
    cnc) echo exp=cnc exp.cnc.units=2 exp.cnc.max_units=60 exp.cnc.batch_norm=train ;;
    self) echo exp=self exp.self.early_epochs=[1,2] ;;
    subg | lisa) echo "exp=$1" exp.train.total_epochs=60 exp.train.val_every_n_epochs=17 ;;
    suby) echo exp=suby exp.train.total_epochs=12 exp.train.val_every_n_epochs=3 ;;
    pde)
        echo exp=pde exp.train.total_epochs=30 exp.train.val_every_n_epochs=8
        echo exp.pde.warmup_epochs=16 exp.pde.interval=2 exp.pde.num_added=5
        ;;
    ldam) echo exp=ldam exp.objective.ldam.drw_from_epoch=3 ;;
    irm) echo exp=irm exp.objective.irm.anneal_steps=30 ;;
    vrex) echo exp=vrex exp.objective.rex.anneal_steps=30 ;;
    *) echo "exp=$1" ;;
    esac
}

# Train and test one method with one seed. What is done already takes seconds.
run() {
    local folder=$LOGS/$1/seed$2 own rule=best-group
    case $1 in dfr | dpe | crt | afr | self) rule=last ;; esac  # heads
    mkdir -p "$LOGS/$1"
    read -ra own <<<"$(settings "$1" "$2" | tr '\n' ' ')"
    "$PYTHON" train.py exp=erm \
        exp/model=resnet18 exp.model.pretrained=false "exp.dataset.root='$CELEBA_ROOT'" \
        "exp.dataset.cache_dir='$CACHE'" exp.dataset.target_resolution=[64,64] \
        exp.dataset.data_augmentation=true exp.optimizer.name=sgd exp.optimizer.lr=0.02 \
        exp.optimizer.weight_decay=0.001 exp.optimizer.schedule=null exp.dataloader.batch_size=64 \
        exp.train.total_epochs=3 exp.train.max_steps=345 exp.train.log_every_n_steps=20 \
        "${own[@]}" "exp.seed=$2" "exp.train.log_dir='$folder'" >"$folder.log" 2>&1 &&
        "$PYTHON" test.py --log_dir "$folder" --ckpt_num "$rule" --split test >>"$folder.log" 2>&1 &&
        echo "$1, seed $2: done"
}

if [ "${1:-}" = run ]; then
    run "$2" "$3" || echo "$2, seed $3: failed, see $LOGS/$2/seed$3.log"
    exit
fi

# ERM first: heads are fitted on its features. Then all methods with the first seed, and so on.
jobs() {
    for seed in $SEEDS; do
        for method in "$@"; do echo "$method $seed"; done
    done
}
{ echo erm_frozen 0; jobs erm; } | xargs -P "$PARALLEL" -L 1 "$0" run
jobs ${METHODS:-${methods[@]}} | xargs -P "$PARALLEL" -L 1 "$0" run
"$PYTHON" -m scripts.report_results --log_dirs "$LOGS"/*/seed* --split test --out_dir "$OUT"
