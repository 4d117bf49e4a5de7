/** What operators get in deploy/: it says nothing that the product does not have, and its own tools take it. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { ExitCode } from '../../src/cli/exit-codes.ts'
import { defaultConfig, settings } from '../../src/daemon/settings.ts'
import { missingTool, testThatNeeds } from '../faults/needs.ts'

const repository = join(import.meta.dirname, '..', '..')
const rulesPath = join(repository, 'deploy', 'prometheus-rules.yml')
const alarmTestsPath = join(import.meta.dirname, 'alarms.yml')
const unitPath = join(repository, 'deploy', 'tidelog.service')
const page = readFileSync(join(repository, 'docs', 'OPERATIONS.md'), 'utf8')

interface Rule {
  alert: string
  expr: string
  labels: { severity: string }
  annotations: { summary: string; action: string }
}

const rules: Rule[] = parse(readFileSync(rulesPath, 'utf8')).groups.flatMap((group: { rules: Rule[] }) => group.rules)
const names = rules.map(({ alert }) => alert)

describe('alarms', () => {
  test('name only metrics that docs/OPERATIONS.md lists, which are those of the daemon', () => {
    const listed = new Set([...page.matchAll(/^\| `((?:tidelog|process)_\w+)` \|/gm)].map(([, name]) => name))
    const used = rules.flatMap(({ expr }) => expr.match(/\b(tidelog|process)_\w+/g) ?? [])
    expect(used.length).toBeGreaterThanOrEqual(rules.length)
    expect(used.filter((name) => !listed.has(name.replace(/_bucket$/, '')))).toEqual([])
  })

  test('stand in docs/OPERATIONS.md, each with what it means and what to do, and no other', () => {
    const rows = [...page.matchAll(/^\| `(Tidelog\w+)` \| (\w+) \| .+ \| .+ \|$/gm)].map(([, name, severity]) => [
      name,
      severity,
    ])
    expect(rows).toEqual(rules.map(({ alert, labels }) => [alert, labels.severity]))
  })

  test('are each tested, both ways', () => {
    const tests: { alert_rule_test: { alertname: string; exp_alerts: unknown[] }[] }[] = parse(
      readFileSync(alarmTestsPath, 'utf8'),
    ).tests
    const looks = tests.flatMap((one) => one.alert_rule_test)
    for (const isFiring of [true, false]) {
      const tested = new Set(
        looks.filter((look) => look.exp_alerts.length > 0 === isFiring).map((look) => look.alertname),
      )
      expect([...tested].sort()).toEqual([...names].sort())
    }
  })

  const testWithPromtool = testThatNeeds(missingTool('promtool', '--version'))

  testWithPromtool('are taken by promtool and fire when they should', () => {
    for (const args of [
      ['check', 'rules', rulesPath],
      ['test', 'rules', alarmTestsPath],
    ]) {
      const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8' })
      expect(status, stdout + stderr).toBe(0)
    }
  })
})

describe('the unit for systemd', () => {
  const unit = readFileSync(unitPath, 'utf8')
  const settingOf = (key: string) => new RegExp(`^${key}=(.*)$`, 'm').exec(unit)?.[1] ?? ''

  test('gives a stop the time that draining takes, and does not start again what will fail again', () => {
    expect(settingOf('Type')).toBe('exec')
    expect(Number.parseInt(settingOf('TimeoutStopSec'), 10) * 1000).toBeGreaterThan(
      defaultConfig().drainTimeoutMs + 5_000,
    )
    expect(settingOf('RestartPreventExitStatus').split(' ').map(Number)).toEqual([
      ExitCode.usage,
      ExitCode.damaged,
      ExitCode.dataLost,
    ])
    expect(Number(settingOf('StartLimitBurst'))).toBeGreaterThan(0)
  })

  test('starts the daemon with flags that it has', () => {
    const [, ...words] = settingOf('ExecStart').split(' ')
    expect(words.slice(0, 2)).toEqual(['/opt/tidelog/bin/tidelog.js', 'serve'])
    const known = settings.map(({ name }) => `--${name}`)
    for (const word of words) if (word.startsWith('--')) expect(known).toContain(word)
  })

  const testWithSystemd = testThatNeeds(missingTool('systemd-analyze', '--version'))

  testWithSystemd('is taken by systemd-analyze, which finds little exposed', () => {
    const folder = mkdtempSync(join(tmpdir(), 'tidelog-unit-'))
    try {
      const path = join(folder, 'tidelog.service')
      // With a program that is there.
      writeFileSync(path, unit.replace('/usr/bin/node /opt/tidelog', `${process.execPath} ${repository}`))
      const verified = spawnSync('systemd-analyze', ['verify', path], { encoding: 'utf8' })
      expect({ status: verified.status, said: verified.stderr }).toEqual({ status: 0, said: '' })
      // In tenths: 0 is nothing, 100 everything.
      const security = ['security', '--offline=yes', '--threshold=20', path]
      const { status, stdout, stderr } = spawnSync('systemd-analyze', security, { encoding: 'utf8' })
      expect(status, stdout + stderr).toBe(0)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
