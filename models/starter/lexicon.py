"""Word lists of the generated reading tasks: broad plain English, written for this project, plus Faker's name lists."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path


def _words(text: str) -> list[str]:
    return text.split()


def _phrases(text: str) -> list[str]:
    """The phrases of a text parted by bars."""
    return [phrase.strip() for phrase in text.replace("\n", " ").split("|")]


def wordings(kind: str) -> list[str]:
    """The lines of `wordings/<kind>`, file by file in the order of their names."""
    files = sorted((Path(__file__).parent / "wordings" / kind).glob("*.txt"))
    return [line for file in files for line in file.read_text("utf-8").splitlines()]


NOUNS: list[str] = _words("""
account advice agency agreement airport alarm allowance amount analysis answer apartment appeal apple application area
arrangement article assembly asset attic audit axle badge balance band bank barrel barrier basement basin basket
battery bay beacon beam bench bill bin boat boiler bolt book booth border bottle box bracket branch brick bridge
brochure budget building bulletin burner bus bush button cabin cabinet cable camera campaign canal canteen card cargo
carpet cart case catalogue ceiling cell centre certificate chain chair chamber channel chapel chart check chimney
circle circuit claim clamp clause clock club coal coast coat code collar collection column committee company
compartment complaint component compressor condition conduit connection contract control cooler copper copy corner
corridor cost council counter country course court cover crane crate crew cross crown culvert cup curtain customer
cutter cycle dam damage date deadline debt deck deed delivery department deposit depot desk detector device diagram
dial diesel dinner discharge discount district ditch dock document door drain drawer drawing drill drive drum duct
duty dwelling edge elbow electricity engine entrance envelope equipment error estate estimate evening event excess
exchange exhaust exhibition exit expense factory failure fan farm fault fee fence ferry field file filter fine fire
fitting flag flame flat fleet flood floor flow flue flush foam folder footpath forecast forest form foundation
fountain frame freezer fuel fund furnace fuse gallery garage garden gas gate gauge gear generator glass goods governor
grant gravel grid ground group guarantee guard guide gully gutter hall hammer handle harbour hatch hazard heater hedge
helmet hinge hire holder holiday hook hose hospital hotel house hut ice incident index indicator injury inlet insert
inspection instalment insulation insurance interest interval invoice iron island item jacket jar job joint journal
journey junction kettle key kitchen label ladder lake lamp land lane lantern laundry lawn layer leaf leak lease ledger
lesson letter level lever library licence lid lift light limit line link list load loan lobby location lock locker log
lorry loss lounge machine mail main manual map margin market mask mast material meal measure meeting membrane memo
meter method mill mine mirror mixer model module moment monitor motor mountain museum nail neck needle network
newspaper nozzle number nursery oak office oil order outfall outlet oven owner pack pad page paint pallet panel paper
parcel park parking part pass patch path patrol pavement payment peak penalty pension period permit phase phone
photograph picture pier pilot pin pipe pipeline pit plan plant plate platform plug pole policy pond pool port post
powder power press pressure price printer probe procedure process product profile programme project property pump
purchase quarry quarter queue quota radiator rail rain ramp range rate reading receipt record refund region register
regulator release relay remark rental repair replacement report request reserve reservoir residence resin restaurant
result return review reward ridge ring river road rod roof room rope route row rule salary sale salt sample sand
scaffold scale scheme school screen screw seal season seat section sensor sequence series service session sewer shaft
shed sheet shelf shell shelter ship shop shower shutter siding signal silo sink siphon site sketch skip sleeve slope
sluice socket soil solution song source spare speed spillway spring spur square stable stack stadium staff stage
staircase stamp standard statement station statue steam steel step stock stone storage store storm stove strainer
strap stream street strip studio study subsidy subsidiary suction summary supplier supply surcharge surface survey
switch system table tank tap tape target tariff task tax team tenant tender tent terminal terrace test theatre
thermostat ticket tide tile timber timetable title tool torch tower town track tractor trailer training transfer
transformer transport tray treatment tree trench trial truck trunk tube tunnel turbine tyre unit upgrade valley valve
van vault vehicle vent verdict vessel village visit visitor voltage voucher wage wagon wall warehouse warning warranty
washer waste water wave weight weir well wharf wheel whistle window winter wire witness wood workshop yard zone
""")

ADJECTIVES: list[str] = _words("""
additional alternative amber ancient annual approved automatic auxiliary basic blocked blue bright brittle broken
brown busy calm central cheap clean clear coarse coastal cold commercial common complete concrete conical corroded
covered critical curved daily damaged dark dead deep delayed dense digital direct dirty disused domestic double dry
dusty early eastern electric elevated emergency empty endless estimated even exact exempt expired exposed external
extra faint fair false faulty final fixed flat floating folded foreign former fragile frequent fresh frozen full
gentle giant golden grand green grey half hard heavy hidden high hollow horizontal hot humid idle immediate indoor
industrial inner internal joint large late leaking left legal light linear local long loose loud low lower main major
manual marine maximum mechanical medium mild minimum minor missing mobile modern monthly muddy municipal mutual narrow
national natural new noisy normal northern oblique occasional official old open optional orange ordinary original
outdoor outer oval overdue overhead painted partial peculiar permanent plain polished portable preliminary previous
primary private protected provisional public purple quarterly quick quiet rapid rare raw ready rear recent red reduced
regional regular remote rigid rough round royal rural rusty safe sealed seasonal secondary secret secure senior
separate shallow sharp shiny short silent silver simple single slow small smooth social soft solar solid southern
spare special spiral standard steady steep sticky stiff still straight strict strong subsequent sudden suitable sunny
tall temporary thick thin tidal tight tiny toxic traditional transparent tropical twin underground uniform unpaid
unusual upper urban urgent useful vacant valid vertical visible voluntary warm weak weekly western wet white wide wild
wooden yearly yellow
""")

# Regular verbs only, so that forms follow from the spelling.
VERBS: list[str] = _words("""
accept adjust answer approve arrange assess attach audit authorise award boil borrow calibrate cancel carry check
clean clear close collect complete confirm connect copy count cover declare deliver describe destroy detect dig
discharge disconnect display document drain empty enter examine exchange extend file fill filter fix flush fold guard
handle heat help hire hoist identify import improve inspect install insulate insure invite isolate issue label launch
lend lift list load locate lock lower maintain mark measure mention mix monitor move notify number obtain offer open
operate order organise pack paint park patch plan plant polish postpone prepare present print process protect publish
pump purchase raise record recover redeem refill refuse register reject release remove rent repair replace report
request rescue reserve reset restore return review rinse sample scan schedule seal search select separate service
share sign sketch sort stamp start stop store submit suspend switch test tighten tow train transfer transport treat
turn unload update upgrade use validate visit warn wash weigh witness
""")

ROLES: list[str] = _phrases("""
duty chemist|shift supervisor|site manager|billing team|customer desk|network engineer|health officer|control room|
night operator|district foreman|chief surveyor|finance director|meter reader|field technician|security guard|
laboratory head|harbour master|warehouse clerk|records office|complaints officer|safety adviser|area manager|
on-call plumber|head teacher|fire warden|treasurer|secretary|landlord|tenant|caretaker|contractor|inspector|
project lead|data steward|press officer|legal counsel|personnel office|senior analyst|dispatcher|ward nurse|
town clerk|account manager|water bailiff|training coordinator|vehicle pool|permit office|procurement unit|
duty engineer|operations manager|regional director|help desk|board of trustees|licensing panel|reservoir keeper|
crew leader|welding foreman|storekeeper|planning committee|auditor|compliance officer|maintenance planner|
drainage inspector|call centre|emergency desk|deputy manager|house owner
""")

REASONS: list[str] = _phrases("""
the valve was leaking|of heavy rain|the road had been flooded|of a burst main|the contract had expired|
the samples were too warm|of a power cut|nobody had signed the form|the pump had overheated|of staff shortages|
the bridge is too narrow|the filter was blocked|of frost damage|the budget was exceeded|
the meter could not be reached|of a software fault|the seal had worn out|the tank was empty|of high turbidity|
the licence had been withdrawn|of noise complaints|the delivery was late|the cable had been cut|the address was wrong|
of a strike|the pressure dropped too fast|a lorry hit the gate|of missing spare parts|the soil was contaminated|
the level was above the limit|the key had been lost|of a public holiday|the readings did not match|
of new safety rules|the supplier went bankrupt|the wall had cracked|the water smelled of chlorine|
the roof needed repair|of low demand|the drawings were out of date|a fuse had failed|of asbestos in the ceiling|
the lift was out of order|the sensor had drifted|the inspection was overdue|of a gas leak|the river was too high
""")

MATERIALS: list[str] = _phrases("""
cast iron|steel|copper|clay|concrete|oak|brass|granite|slate|ductile iron|stainless steel|polyethylene|PVC|aluminium|
glass fibre|brick|bronze|lead|rubber|limestone|pine|zinc|carbon steel|sandstone|asbestos cement|galvanised steel|
porcelain|nylon|bamboo|titanium
""")

COLOURS: list[str] = _phrases("""
red|dark blue|green|yellow|orange|white|black|grey|light green|purple|brown|pink|silver|turquoise|amber|navy blue|
cream|maroon|violet|beige|pale yellow|crimson|olive|gold
""")

KINDS: list[str] = _phrases("""
depot|pumping station|reservoir|office|laboratory|treatment works|warehouse|bridge|tower|workshop|service centre|
harbour|school|hospital|library|museum|plant|farm|factory|market hall|campsite|station|lock|mill|observatory|
swimming pool|car park|sports hall|theatre|archive|quarry|dam|wharf|terminal|substation|clinic|hotel|park|borehole|
well|weir
""")

THINGS: list[str] = _phrases("""
tariff|permit|scheme|contract|plan|licence|policy|service|procedure|card|form|programme|subscription|grant|discount|
notice|agreement|model|pump|meter|valve|sensor|boiler|vehicle|device|filter|pass|rule|order|project|training|report
""")

UNITS: list[str] = _phrases("""
bar|metres|kilometres|litres|litres per second|cubic metres|cubic metres per hour|kW|kilowatt hours|tonnes|kilograms|
mg/l|degrees|hectares|volts|amps|millimetres|centimetres|decibels|NTU|ppm|rpm|seats|beds|pages|employees|households|
vehicles|megawatts|watts|kPa|litres per day|mm per hour|square metres|inches|feet|miles|points|tickets|passengers|
customers|°C
""")

DOCS: list[str] = _phrases("""
proof of identity|a signed lease|a bank statement|form {c}|the yellow card|a site plan|the original invoice|
a medical certificate|two photographs|a valid passport|a copy of the contract|the meter number|a recent payslip|
the inspection report|a written request|a deposit receipt|the final reading|a letter from the landlord|
a building permit|the delivery note
""")

CONDITIONS: list[str] = _phrases("""
if the {n} is {a}|when the {n} has been {v}|unless the {n} is {a}|after the {n} has been {v}|before the {n} is {v}|
if no {n} is available|in case of a {a} {n}|as soon as the {n} is {a}|during the {a} {n}|without a {a} {n}
""")

SPOTS: list[str] = _phrases("""
north bank|south bank|old town|upper valley|lower valley|east quarter|harbour district|west wing|third floor|basement|
main square|river side|ground floor|city centre|market street|ring road|northern border|second courtyard|coast|island|
inner yard|room {d}|building {l}|hall {d}|gate {d}|cabinet {l}|shelf {d}|zone {d}|section {l}
""")

ONSETS: list[str] = _words("""
b br c ch cl cr d dr f fl g gl gr h j k kl kn l m n p pl pr qu r s sc sh sk sl sm sn sp st str t th tr v w y z
""")
NUCLEI: list[str] = _words("a e i o u a e i o ai au ea ee ei ia ie io oa oo ou")
CODAS: list[str] = _words("b ck d f g k l ld ll lm ln m mp n nd ng nk nt p r rd rk rn rt s sk st t th x")
PLACE_ENDS: list[str] = _words("""
ton ham ford wick bury mouth field dale haven bridge by stead worth well minster gate ley port hurst mere
""")
ORG_ENDS: list[str] = _phrases("""
Ltd|Group|Water|Services|Trust|Partners|and Sons|Council|Institute|Works|Logistics|Energy|Systems|Society|Foundation|
Engineering|Association|Bank|Utilities|Press|Agency|Laboratories|Motors|Insurance|Contractors
""")

_PERSON_LOCALES = _words("""
en_GB en_US de_DE fr_FR es_ES it_IT nl_NL pl_PL sv_SE fi_FI pt_PT cs_CZ tr_TR no_NO hr_HR ro_RO en_IN en_NG
""")
_CITY_LOCALES = _words("de_DE fr_FR it_IT nl_NL es_ES fi_FI no_NO cs_CZ pl_PL sk_SK hr_HR")


def _latin(names: Iterable[object], longest: int) -> list[str]:
    words = [str(name) for name in names]
    return [w for w in words if 2 < len(w) <= longest and w[0].isupper() and w.replace(" ", "").isalpha()]


def _collect(provider: str, locales: list[str], fields: list[str], longest: int) -> list[str]:
    """The sorted names of up to `longest` letters in Faker's word lists of these locales."""
    found: set[str] = set()
    for locale in locales:
        try:
            module = importlib.import_module(f"faker.providers.{provider}.{locale}")
        except ModuleNotFoundError:  # not every locale has every provider
            continue
        for field in fields:
            found.update(_latin(getattr(module.Provider, field, None) or (), longest))
    return sorted(found)


@cache
def first_names() -> list[str]:
    """First names of many countries."""
    return _collect("person", _PERSON_LOCALES, ["first_names", "first_names_male", "first_names_female"], 11)


@cache
def last_names() -> list[str]:
    """Family names of many countries."""
    return _collect("person", _PERSON_LOCALES, ["last_names"], 13)


@cache
def cities() -> list[str]:
    """Names of European towns in plain ASCII."""
    found = _collect("address", _CITY_LOCALES, ["cities", "city_names", "towns"], 16)
    return [name for name in found if name.isascii()]


@cache
def common_words() -> list[str]:
    """About a thousand common English words (Faker's en_US word list)."""
    module = importlib.import_module("faker.providers.lorem.en_US")
    return sorted({str(word).lower() for word in module.Provider.word_list if str(word).isalpha()})
