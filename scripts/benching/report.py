"""Medians and spread as JSON, as a table and as a picture."""

import json
import os
import statistics


def summary(results, systems):
    """Of each job and system the median of every figure, and the lowest and highest IOPS of a round."""
    out = {}
    for job, by_system in results.items():
        out[job] = {}
        for name, rounds in by_system.items():
            medians = {key: statistics.median(figures[key] for figures in rounds) for key in rounds[0]}
            iops = [figures['iops'] for figures in rounds]
            out[job][name] = {'label': systems[name].label, 'note': systems[name].note, 'rounds': len(rounds),
                              'lowest_iops': min(iops), 'highest_iops': max(iops), **medians}
    return out


def write_json(folder, name, machine, figures):
    """The figures with what they were measured on."""
    with open(os.path.join(folder, name), 'w') as out:
        json.dump({'machine': machine, 'figures': figures}, out, indent=1)
        out.write('\n')


def table(figures):
    """For people. `x raw`, `x pair`, `x QEMU`: IOPS as a multiple of theirs in the same run."""
    lines = []
    for job, by_system in figures.items():
        lines.append(f'{job:24}{"IOPS":>9}{"lowest":>9}{"highest":>9}{"MiB/s":>7}{"mean us":>9}{"p99 us":>8}'
                     f'{"CPU s/M":>9}{"x raw":>7}{"x pair":>8}{"x QEMU":>8}')
        for name, row in by_system.items():
            ratios = ''.join(
                f'{row["iops"] / by_system[other]["iops"]:{width}.2f}' if other in by_system else ' ' * width
                for other, width in (('raw', 7), ('raw-pair', 8), ('qemu', 8)))
            lines.append(f'  {row["label"]:22}{row["iops"]:9.0f}{row["lowest_iops"]:9.0f}{row["highest_iops"]:9.0f}'
                         f'{row["mib_s"]:7.0f}{row["mean_us"]:9.0f}{row["p99_us"]:8.0f}'
                         f'{row["cpu_s_per_million"]:9.1f}{ratios}')
        lines.append('')
    lines.append('CPU s/M: processor seconds of the whole machine, client included, for a million requests.')
    return '\n'.join(lines) + '\n'


def picture(path, machine, figures):
    """Bars of IOPS, a panel for each job."""
    import matplotlib
    matplotlib.use('svg')
    from matplotlib import pyplot
    matplotlib.rcParams['svg.hashsalt'] = 'rblk'        # the same figures make the same file
    matplotlib.rcParams['font.size'] = 8
    colours = {'raw': '#9aa5b1', 'raw-pair': '#748494', 'nbdkit': '#c3ccd5', 'rblk': '#d9480f', 'rblk-tls': '#f08c00',
               'qemu': '#1971c2', 'gluster': '#2f9e44'}
    columns = 4 if len(figures) > 3 else len(figures)
    rows = -(-len(figures) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(2.6 * columns, 2.1 * rows + 0.4), squeeze=False)
    flat = [axis for row in axes for axis in row]
    for axis in flat[len(figures):]:
        axis.set_visible(False)
    for axis, (job, by_system) in zip(flat, figures.items()):
        names = list(by_system)
        values = [by_system[name]['iops'] for name in names]
        spread = [[value - by_system[name]['lowest_iops'] for name, value in zip(names, values)],
                  [by_system[name]['highest_iops'] - value for name, value in zip(names, values)]]
        axis.barh(names, values, xerr=spread, color=[colours[name] for name in names], error_kw={'lw': 0.8})
        axis.invert_yaxis()
        axis.set_title(job, fontsize=8)
        axis.set_xticks([])
        for side in ('top', 'right', 'bottom'):
            axis.spines[side].set_visible(False)
        limit = max(by_system[name]['highest_iops'] for name in names)
        axis.set_xlim(0, limit * 1.35)
        for place, name in enumerate(names):
            row = by_system[name]
            axis.text(row['highest_iops'] + limit * 0.03, place, f'{row["iops"]:,.0f}', va='center', fontsize=7)
    figure.suptitle(f'IOPS, median and spread; {machine["processor"]}, {machine["cores"]} cores, Linux '
                    f'{machine["kernel"]}; {machine["date"]}, commit {machine["commit"]}', fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={'Date': None})
