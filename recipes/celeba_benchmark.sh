#!/usr/bin/env bash
# A benchmark on 14,000 real images: 15 methods with 4 settings each, chosen on validation and trained
# again with 3 fresh seeds. About 9 minutes per network on one CPU core, 8 hours on two.
#
#   CELEBA_ROOT=data/celeba recipes/celeba_benchmark.sh     PYTHON, LOGS and OUT name other places
#   METHODS=erm,rwg,dfr BUDGET=2 SEEDS=2 recipes/celeba_benchmark.sh
#
# A stopped recipe goes on with the same command; finished runs are not repeated.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python} LOGS=${LOGS:-logs/celeba_benchmark} OUT=${OUT:-outputs/celeba_benchmark}
CELEBA_ROOT=${CELEBA_ROOT:-data/celeba} CACHE=${CACHE:-data/cache}
METHODS=${METHODS:-erm,rwg,group_dro,group_weights,class_weights,rwy,subg,suby,jtt,lisa,mixup,logit_adjustment,dfr,crt,dpe}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

exec "$PYTHON" -m scripts.run_benchmark --methods "$METHODS" --settings recipes/celeba_benchmark.yaml \
    --budget "${BUDGET:-4}" --seeds "${SEEDS:-3}" --mode shell --parallel "${PARALLEL:-2}" \
    --log_dir "$LOGS" --out_dir "$OUT" -- \
    "exp.dataset.root='$CELEBA_ROOT'" "exp.dataset.cache_dir='$CACHE'"
