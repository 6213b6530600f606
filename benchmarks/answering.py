from __future__ import annotations
from benchmarks.accuracy import Answer
from ownward import catalog
from ownward.perf import Case, predict, engine_family
from ownward.core import OwnwardError
def answer_rows(rows, configs, leave_pair_out=False):
    out=[]
    for r in rows:
        q=dict(r.question); 
        kind='unknown'
        try:
            m=catalog.machine(r.hardware); kind=m.kind
            a=configs.load(r.config)
            if isinstance(a,OwnwardError): raise a
            conc=q['concurrency']
            if not isinstance(conc,int): raise OwnwardError('load not posed') if False else ValueError('load not posed')
            case=Case(id=q['id'],anatomy=a,machine=m,machines_count=q['machines_count'],engine=q['engine'],weights=q['weights'] or 'q4_k_m',kv_type=(q['kv_type'] or 'bf16').replace('auto','bf16'),
              tensor_parallel=q['tensor_parallel'],cpu_offload=bool(q['cpu_offload']),speculative=bool(q['speculative']),concurrency=conc,input_tokens=q['input_tokens'] or 512,output_tokens=q['output_tokens'] or 128,context_depth=q['context_depth'],metric=q['metric'])
            p=predict(case)
            out.append(Answer(row=r,cell=(r.metric,engine_family(q['engine']),kind),value=p.value,low80=p.low80,high80=p.high80,refused=(p.refused or '')[:60] or None))
        except Exception as e:
            out.append(Answer(row=r,cell=(r.metric,engine_family(q['engine']),kind),value=None,low80=None,high80=None,refused=str(e)[:60]))
    return out
